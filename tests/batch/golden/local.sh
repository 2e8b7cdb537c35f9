#!/bin/bash
# Engines on this machine, in the background. Copy, edit, `nohup bash local.sh > mpicluster.log 2>&1 &`;
# or let `mpicluster submit local -n 4` fill it in.

# how many, and seconds after which they end; empty: never
ENGINES=64
WALLTIME=5400

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
exec ${WALLTIME:+timeout --foreground --kill-after=60 "$WALLTIME"} \
    "$PYTHON" -m mpicluster "${MPICLUSTER[0]}" -n "$ENGINES" "${NAME[@]}" "${MPICLUSTER[@]:1}"
