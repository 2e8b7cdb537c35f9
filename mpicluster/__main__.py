"""``python -m mpicluster`` is the command line."""

from mpicluster.cli import main

if __name__ == "__main__":
    main(prog_name="mpicluster")
