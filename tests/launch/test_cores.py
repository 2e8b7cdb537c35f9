"""How many cores a process may use, from what control groups say."""

from __future__ import annotations

import os

import pytest

from mpicluster.launch.cores import cores, quota


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "800000 100000\n"}, 2.0),
        ({"a/b/cpu.max": "nonsense\n"}, None),
    ],
)
def test_the_tightest_limit_above_a_process_counts(tmp_path, files, limit):
    """Control groups, version 2: the group's own, and those around it."""
    write(tmp_path, files)
    assert quota("0::/a/b\n", tmp_path) == limit


def test_the_older_control_groups_are_read_too(tmp_path):
    """Version 1: quota and period in two files, -1 for no limit."""
    write(tmp_path, {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000", "cpu/cpu.cfs_quota_us": "-1"})
    assert quota("4:cpu,cpuacct:/job\n3:memory:/job\n", tmp_path) == 3.0


def test_this_process_may_use_what_it_is_bound_to_at_most():
    """Never more than its affinity, never less than one."""
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
