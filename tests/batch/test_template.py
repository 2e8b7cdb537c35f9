"""Lines of templates are set, wherever they are and whether they were on or off."""

from __future__ import annotations

import pytest

from mpicluster.batch.request import Request
from mpicluster.batch.systems import system
from mpicluster.batch.template import filled, places, template
from mpicluster.errors import LaunchError

TEXT = """#!/bin/bash
# about it
#SBATCH --ntasks=4
##SBATCH --nodes=1
#SBATCH --time=01:00:00

PYTHON=python3
exec "$PYTHON"
"""


def test_a_line_that_is_there_is_set_and_one_that_is_off_is_on():
    text = filled(TEXT, "#SBATCH", {"--ntasks=": "--ntasks=64", "--nodes=": "--nodes=2"})
    assert text.splitlines()[2:5] == ["#SBATCH --ntasks=64", "#SBATCH --nodes=2", "#SBATCH --time=01:00:00"]


def test_a_line_that_is_not_there_comes_after_the_others():
    text = filled(TEXT, "#SBATCH", {"--qos=": "--qos=high"}, extra=["--constraint=gpu"])
    assert text.splitlines()[4:7] == ["#SBATCH --time=01:00:00", "#SBATCH --qos=high", "#SBATCH --constraint=gpu"]


def test_a_line_that_is_there_twice_is_there_once():
    text = filled(TEXT + "#SBATCH --ntasks=8\n", "#SBATCH", {"--ntasks=": "--ntasks=64"})
    assert text.count("--ntasks") == 1


@pytest.mark.parametrize(("prefix", "old", "begin", "new", "expected"), [
    ("#SBATCH", "#SBATCH --ntasks=4 --constraint=ib", "--ntasks=", "--ntasks=64", "#SBATCH --ntasks=64 --constraint=ib"),
    ("#SBATCH", '##SBATCH --output="a b" # ours', "--output=", "--output=c", "#SBATCH --output=c # ours"),
    ("#$", "#$ -l h_rt=01:00:00,h_vmem=4G", "-l h_rt=", "-l h_rt=02:00:00", "#$ -l h_rt=02:00:00,h_vmem=4G"),
    ("#$", "#$  -pe  orte 4 # ours", "-pe ", "-pe mpi 64", "#$ -pe mpi 64 # ours"),
    ("#BSUB", "#BSUB -n 4,8", "-n ", "-n 64", "#BSUB -n 64"),
    ("#BSUB", '#BSUB -R "span[ptile=4] select[mem>1]"', '-R "span[', '-R "span[ptile=16]"', '#BSUB -R "span[ptile=16] select[mem>1]"'),
    ("#BSUB", '##BSUB -gpu "num=1"', "-gpu ", '-gpu "num=4"', '#BSUB -gpu "num=4"'),
    ("", "request_memory = 1 G", "request_memory = ", "request_memory = 2M", "request_memory = 2M"),
])  # fmt: skip
def test_what_follows_a_value_stays(prefix, old, begin, new, expected):
    assert filled(old, prefix, {begin: new}) == expected + "\n"


def test_chunks_of_pbs_keep_what_a_site_has_in_them():
    text = "#PBS -l select=1:ncpus=4:mpiprocs=4:mem=8gb:arch=skylake\n#PBS -l walltime=01:00:00,file=1gb\n"
    asked = Request(n=64, nodes=4, time=7200, mem=1024)
    assert system("pbs").script(text, asked).splitlines() == [
        "#PBS -l select=4:ncpus=16:mpiprocs=16:mem=1024mb:arch=skylake",
        "#PBS -l walltime=02:00:00,file=1gb",
        "#PBS -l place=scatter",
    ]
    one = "#PBS -l select=1:ncpus=4:mpiprocs=4:arch=skylake,walltime=01:00:00,place=pack\n"
    assert system("pbs").script(one, Request(n=8)) == "#PBS -l select=1:ncpus=8:mpiprocs=8:arch=skylake,walltime=01:00:00,place=pack\n"
    assert ":mem=8gb:arch=skylake\n" in system("pbs").script(text, asked._replace(mem=None))
    assert system("pbs").script(text + "#PBS -l place=pack\n", asked).count("place=") == 1


def test_nothing_asked_is_nothing_changed():
    assert filled(TEXT, "#SBATCH", {}) == TEXT


def test_variables():
    assert "\nPYTHON='/a b/python'\n" in filled(TEXT, "#SBATCH", {}, variables={"PYTHON=": "'/a b/python'"})
    with pytest.raises(LaunchError, match="no line that begins with 'NAME='"):
        filled(TEXT, "#SBATCH", {}, variables={"NAME=": "x"})


def test_a_file_of_assignments():
    text = filled("a = 1\n##b = 2\nqueue\n", "", {"a = ": "a = 3", "b = ": "b = 4", "c = ": "c = 5"}, extra=["d = 6"])
    assert text == "a = 3\nb = 4\nc = 5\nd = 6\nqueue\n"


def test_a_site_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_LAUNCHERS", str(tmp_path))
    assert places()[0] == tmp_path
    path, text = template("slurm.sh")
    assert path.parent == places()[-1]
    assert text.startswith("#!/bin/bash")
    (tmp_path / "slurm.sh").write_text(TEXT)
    assert template("slurm.sh") == (tmp_path / "slurm.sh", TEXT)


def test_a_template_that_is_not_there():
    with pytest.raises(LaunchError, match=r"no template /nowhere/x\.sh; looked in /nowhere"):
        template("slurm.sh", "/nowhere/x.sh")
