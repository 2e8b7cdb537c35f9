#!/bin/bash
# Engines in a PBS job (OpenPBS, PBS Professional). Copy, edit, `qsub pbs.sh`; or let `mpicluster submit pbs -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#PBS -N search
#PBS -l select=4:ncpus=16:mpiprocs=16:mem=16384mb:ngpus=2
#PBS -l walltime=01:30:00
#PBS -q debug
#PBS -A project
#PBS -o /home/me/search.log
#PBS -j oe
# it is written while the job runs; a PBS before 18 does that only in the end: remove this line there
#PBS -k doe
# a job that is begun anew would find the traces of its first life
#PBS -r n
#PBS -l place=excl

# sourced first: modules, conda, variables
ENV_SCRIPT=/home/me/env.sh
# the Python that has mpicluster
PYTHON=/home/me/venv/bin/python
export MPICLUSTER_STATE_DIR='/scratch/my state'
# what it does: start engines; or, with a script: (run script.py ARGUMENTS)
MPICLUSTER=(run --grace 50 -- search.py 'a b' '$HOME')
# under which name clients find it
NAME=(--profile default --cluster 3f2a91bc)

cd "$PBS_O_WORKDIR"
if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$(wc -l < "$PBS_NODEFILE")" "${NAME[@]}" "${MPICLUSTER[@]:1}"
