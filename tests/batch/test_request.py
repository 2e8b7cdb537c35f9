"""Times and sizes as people write them."""

from __future__ import annotations

import pytest

from mpicluster.batch import jobs
from mpicluster.batch.request import clock, mebibytes, seconds


@pytest.mark.parametrize(("text", "expected"), [
    ("1:30:00", 5400), ("0:00:30", 30), ("100:00:00", 360_000), ("2-12:00:00", 216_000), ("2-12", 216_000), ("1-00:30", 88_200),
    ("90m", 5400), ("90min", 5400), ("1h30m", 5400), ("2d", 172_800), ("45s", 45), ("1d2h3m4s", 93_784),
])  # fmt: skip
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1:30", "90", "0:00:00", "soon", "-1h", "1h 30m", "1:2:3:4"])
def test_what_is_no_time(text):
    """Of 1:30, Slurm makes a minute and a half, LSF an hour and a half."""
    with pytest.raises(ValueError, match="is no time: write hours"):
        seconds(text)


def test_clocks():
    assert [clock(s) for s in (5, 5400, 216_000)] == ["00:00:05", "01:30:00", "60:00:00"]
    assert [clock(s, days=True) for s in (5400, 216_000)] == ["01:30:00", "2-12:00:00"]
    for total in (1, 59, 3600, 86_399, 86_400, 1_000_000):
        assert seconds(clock(total)) == seconds(clock(total, days=True)) == total


@pytest.mark.parametrize(
    ("text", "expected"), [("16G", 16_384), ("512M", 512), ("2T", 2_097_152), ("1.5g", 1536), ("100", 100), ("2048K", 2), ("4GiB", 4096)]
)
def test_sizes(text, expected):
    assert mebibytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "0", "1K", "16X"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is no size of memory"):
        mebibytes(text)


def test_a_request_is_checked():
    asked = jobs.request(n=4, time="1h", mem="2G", extra="--x", qos=None)
    assert (asked.n, asked.time, asked.mem, asked.extra, asked.qos) == (4, 3600, 2048, ("--x",), None)
    with pytest.raises(ValueError, match="n is a positive whole number, not 0"):
        jobs.request(n=0)
    with pytest.raises(ValueError, match="no option 'queu'"):
        jobs.request(queu="x")
    with pytest.raises(ValueError, match="partition is one line"):
        jobs.request(partition="a\n#SBATCH --evil")
