#!/bin/bash
# Engines in a Slurm job. Copy, edit, `sbatch slurm.sh`; or let `mpicluster submit slurm -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#SBATCH --job-name=mpicluster
#SBATCH --ntasks=4
##SBATCH --nodes=1
#SBATCH --time=01:00:00
##SBATCH --partition=PARTITION
##SBATCH --account=ACCOUNT
##SBATCH --qos=QOS
##SBATCH --mem=16G
##SBATCH --gpus=1
#SBATCH --output=mpicluster-%j.log
# a minute before the end, a script gets KeyboardInterrupt, and engines end in good order
#SBATCH --signal=B:TERM@60
# a job that is begun anew would find the traces of its first life
#SBATCH --no-requeue

# sourced first: modules, conda, variables
ENV_SCRIPT=
# the Python that has mpicluster
PYTHON=python3
# what it does: start engines; or, with a script: (run --grace 50 script.py ARGUMENTS)
MPICLUSTER=(start)
# under which name clients find it
NAME=(--profile default --cluster "slurm-$SLURM_JOB_ID")

export SLURM_EXPORT_ENV=ALL # or `sbatch --export=NONE` would reach mpiexec
if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$SLURM_NTASKS" "${NAME[@]}" "${MPICLUSTER[@]:1}"
