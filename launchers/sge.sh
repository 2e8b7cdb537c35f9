#!/bin/bash
# Engines in a Grid Engine job. Copy, edit, `qsub sge.sh`; or let `mpicluster submit sge -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#$ -N mpicluster
# the parallel environment, which your site has named: `qconf -spl` lists them; and the number of engines
#$ -pe mpi 4
#$ -l h_rt=01:00:00
##$ -q QUEUE
##$ -P PROJECT
##$ -l gpu=1
#$ -o mpicluster.log
#$ -j y
#$ -cwd
#$ -S /bin/bash
# SIGUSR2 comes before SIGKILL, as long before as the queue's `notify` says: then a script gets KeyboardInterrupt
#$ -notify
# a job that is begun anew would find the traces of its first life
#$ -r n

# sourced first: modules, conda, variables
ENV_SCRIPT=
# the Python that has mpicluster
PYTHON=python3
# what it does: start engines; or, with a script: (run --grace 50 script.py ARGUMENTS)
MPICLUSTER=(start)
# under which name clients find it
NAME=(--profile default --cluster "sge-$JOB_ID")

if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
# Open MPI's wheel does not know Grid Engine: it is told the hosts; others are told by it
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$NSLOTS" --host "$(awk '{ print $1 ":" $2 }' "$PE_HOSTFILE" | paste -sd,)" "${NAME[@]}" "${MPICLUSTER[@]:1}"
