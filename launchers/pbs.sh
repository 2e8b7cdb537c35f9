#!/bin/bash
# Engines in a PBS job (OpenPBS, PBS Professional). Copy, edit, `qsub pbs.sh`; or let `mpicluster submit pbs -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#PBS -N mpicluster
#PBS -l select=1:ncpus=4:mpiprocs=4
#PBS -l walltime=01:00:00
##PBS -q QUEUE
##PBS -A ACCOUNT
#PBS -o mpicluster.log
#PBS -j oe
# it is written while the job runs; a PBS before 18 does that only in the end: remove this line there
#PBS -k doe
# a job that is begun anew would find the traces of its first life
#PBS -r n

# sourced first: modules, conda, variables
ENV_SCRIPT=
# the Python that has mpicluster
PYTHON=python3
# what it does: start engines; or, with a script: (run script.py ARGUMENTS)
MPICLUSTER=(start)
# under which name clients find it
NAME=(--profile default --cluster "pbs-${PBS_JOBID%%.*}")

cd "$PBS_O_WORKDIR"
if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$(wc -l < "$PBS_NODEFILE")" "${NAME[@]}" "${MPICLUSTER[@]:1}"
