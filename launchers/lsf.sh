#!/bin/bash
# Engines in an LSF job. Copy, edit, `bsub < lsf.sh`; or let `mpicluster submit lsf -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#BSUB -J mpicluster
#BSUB -n 4
##BSUB -R "span[ptile=4]"
#BSUB -W 1:00
##BSUB -q QUEUE
##BSUB -P PROJECT
##BSUB -R "rusage[mem=16384]"
##BSUB -gpu "num=1"
# written in the end, or, after `export LSB_STDOUT_DIRECT=Y`, while the job runs
#BSUB -o mpicluster.%J.log
# a minute before the end, a script gets KeyboardInterrupt, and engines end in good order
#BSUB -wa TERM -wt 1
# a job that is begun anew would find the traces of its first life
#BSUB -rn

# sourced first: modules, conda, variables
ENV_SCRIPT=
# the Python that has mpicluster
PYTHON=python3
# what it does: start engines; or, with a script: (run --grace 50 script.py ARGUMENTS)
MPICLUSTER=(start)
# under which name clients find it
NAME=(--profile default --cluster "lsf-$LSB_JOBID")

if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$LSB_DJOB_NUMPROC" "${NAME[@]}" "${MPICLUSTER[@]:1}"
