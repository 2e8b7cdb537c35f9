#!/bin/bash
# Engines in a Slurm job. Copy, edit, `sbatch slurm.sh`; or let `mpicluster submit slurm -n 64 --time 1:00:00` fill it in.
# A line that begins with ## is off: take one # away to use it.
#
#SBATCH --job-name=search
#SBATCH --ntasks=64
#SBATCH --nodes=4
#SBATCH --time=01:30:00
#SBATCH --partition=debug
#SBATCH --account=project
#SBATCH --qos=high
#SBATCH --mem=16384M
#SBATCH --gpus=8
#SBATCH --output=/home/me/search.log
# a minute before the end, a script gets KeyboardInterrupt, and engines end in good order
#SBATCH --signal=B:TERM@60
# a job that is begun anew would find the traces of its first life
#SBATCH --no-requeue
#SBATCH --constraint=gpu

# sourced first: modules, conda, variables
ENV_SCRIPT=/home/me/env.sh
# the Python that has mpicluster
PYTHON=/home/me/venv/bin/python
export MPICLUSTER_STATE_DIR='/scratch/my state'
# what it does: start engines; or, with a script: (run --grace 50 script.py ARGUMENTS)
MPICLUSTER=(run --grace 50 -- search.py 'a b' '$HOME')
# under which name clients find it
NAME=(--profile default --cluster 3f2a91bc)

export SLURM_EXPORT_ENV=ALL # or `sbatch --export=NONE` would reach mpiexec
if [ -n "$ENV_SCRIPT" ]; then . "$ENV_SCRIPT"; fi
exec "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$SLURM_NTASKS" "${NAME[@]}" "${MPICLUSTER[@]:1}"
