"""The scripts that each system would be given, line by line; and that a shell understands them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mpicluster.batch.request import Request
from mpicluster.batch.systems import NAMES, system
from mpicluster.batch.template import template

GOLDEN = Path(__file__).parent / "golden"
ASKED = Request(
    n=64,
    nodes=4,
    time=5400,
    partition="debug",
    account="project",
    qos="high",
    mem=16_384,
    gpus=8,
    name="search",
    log="/home/me/search.log",
    env_script="/home/me/env.sh",
    extra=(),
    python="/home/me/venv/bin/python",
    words=("run", "--grace", "50", "--", "search.py", "a b", "$HOME"),
    profile="default",
    cluster="3f2a91bc",
    environment=(("MPICLUSTER_STATE_DIR", "/scratch/my state"),),
)
#: what a system has no word for
WITHOUT = {
    "slurm": {"extra": ("--constraint=gpu",)},
    "pbs": {"qos": None, "extra": ("-l place=excl",)},
    "lsf": {"qos": None, "extra": ("-x",)},
    "sge": {"nodes": None, "qos": None, "mem": None, "gpus": None, "extra": ("-l exclusive",)},
    "htcondor": {"nodes": None, "partition": None, "qos": None, "words": ("start",), "extra": ("requirements = (HasIB)",)},
    "local": {"nodes": None, "partition": None, "account": None, "qos": None, "mem": None, "gpus": None},
}


REFUSED = {name: [option for option, value in changes.items() if value is None] for name, changes in WITHOUT.items()}


def script(name, asked):
    kind = system(name)
    return kind.script(template(kind.file)[1], asked)


def compared(path, text):
    """To write them anew: remove them, and run this; then look at what git says."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        pytest.fail(f"{path.name} was not there, and is now")
    assert text == path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_asked_reaches_the_script(name):
    asked = ASKED._replace(**WITHOUT[name])
    text = script(name, asked)
    compared(GOLDEN / system(name).file, text)
    for value in (asked.partition, asked.account, asked.qos, asked.env_script, asked.python, asked.cluster, *asked.extra):
        assert value is None or value in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["nodes", "partition", "account", "qos", "mem", "gpus"])
def test_an_option_is_heeded_or_refused(name, option):
    asked = Request(n=64, **{option: getattr(ASKED, option)})
    plain = script(name, Request(n=64))
    if option in REFUSED.get(name, ()):
        with pytest.raises(ValueError, match=r"means nothing to|is 1 here|is one node"):
            script(name, asked)
    else:
        assert script(name, asked) != plain


@pytest.mark.parametrize("name", NAMES)
def test_a_template_is_a_script_as_it_stands(name):
    text = template(system(name).file)[1]
    assert script(name, Request()) == text
    if system(name).file.endswith(".sh"):
        assert subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize("name", ["slurm", "pbs", "lsf", "sge", "local"])
def test_what_is_run_in_the_job(name, tmp_path):
    """The script with a Python that says what it was asked to do."""
    python, env, nodes = tmp_path / "a python", tmp_path / "env.sh", tmp_path / "nodes"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$MODULE" "$MPICLUSTER_STATE_DIR" "$@"\n')
    python.chmod(0o755)
    env.write_text("export MODULE=loaded\n")
    nodes.write_text("a\na\nb\nb\n" if name == "pbs" else "a 2 all.q@a UNDEFINED\nb 2 all.q@b UNDEFINED\n")
    asked = ASKED._replace(**WITHOUT[name])._replace(n=4, time=None, nodes=None, gpus=None, python=str(python), env_script=str(env))
    job = {
        "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "PBS_JOBID": "7.server", "PBS_NODEFILE": str(nodes), "PBS_O_WORKDIR": str(tmp_path),
        "LSB_DJOB_NUMPROC": "4", "LSB_JOBID": "7", "NSLOTS": "4", "PE_HOSTFILE": str(nodes), "JOB_ID": "7",
    }  # fmt: skip
    said = subprocess.run(
        ["bash"], input=script(name, asked), capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", **job}
    ).stdout.splitlines()
    hosts = ["--host", "a:2,b:2"] if name == "sge" else []
    names = ["--profile", "default", "--cluster", "3f2a91bc"]
    assert said[:2] == ["loaded", "/scratch/my state"]
    assert said[2:] == ["-m", "mpicluster", "run", "-n", "4", *hosts, *names, "--grace", "50", "--", "search.py", "a b", "$HOME"]


def test_a_parallel_environment_keeps_the_name_that_a_site_gave_it():
    text = template("sge.sh")[1].replace("-pe mpi 4", "-pe orte 4")
    assert "\n#$ -pe orte 64\n" in system("sge").script(text, Request(n=64))


def test_a_system_that_is_not():
    with pytest.raises(ValueError, match="there is no batch system 'slrum'; there are slurm, pbs, lsf, sge, htcondor, local"):
        system("slrum")
    assert system("OpenPBS") is system("pbs")
