#!/bin/bash
# Engines in an LSF job. Copy, edit, `bsub < lsf.sh`; or let `mpicluster submit lsf -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#BSUB -J search
#BSUB -n 64
#BSUB -R "span[ptile=16]"
#BSUB -W 1:30
#BSUB -q debug
#BSUB -P project
#BSUB -R "rusage[mem=16384M/host]"
#BSUB -gpu "num=2"
# written in the end, or, after `export LSB_STDOUT_DIRECT=Y`, while the job runs
#BSUB -o /home/me/search.log
# a minute before the end, a script gets KeyboardInterrupt, and engines end in good order
#BSUB -wa TERM -wt 1
# a job that is begun anew would find the traces of its first life
#BSUB -rn
#BSUB -x

# sourced first: modules, conda, variables
ENV_SCRIPT=/home/me/env.sh
# the Python that has mpicluster
PYTHON=/home/me/venv/bin/python
export MPICLUSTER_STATE_DIR='/scratch/my state'
# what it does: start engines; or, with a script: (run --grace 50 script.py ARGUMENTS)
MPICLUSTER=(run --grace 50 -- search.py 'a b' '$HOME')
# under which name clients find it
NAME=(--profile default --cluster 3f2a91bc)

if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$LSB_DJOB_NUMPROC" "${NAME[@]}" "${MPICLUSTER[@]:1}"
