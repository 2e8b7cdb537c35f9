"""joblib with no cluster in sight: one is started, found again, and ends with the process."""

from __future__ import annotations

import subprocess
import sys

TIMEOUT = 60

CODE = """if 1:
    import os
    import joblib
    import mpicluster
    from mpicluster.launch.mpi import cores

    mpicluster.register_joblib_backend(make_default=True)
    assert joblib.effective_n_jobs(-1) == cores()
    pids = joblib.Parallel(n_jobs=-1)(joblib.delayed(os.getpid)() for _ in range(20))
    assert os.getpid() not in pids or cores() == 1
    assert joblib.Parallel(n_jobs=-1)(joblib.delayed(abs)(-i) for i in range(5)) == list(range(5))
    with mpicluster.Client() as rc:  # the same for others
        print(sorted(set(pids) - set(rc[:].apply_sync(os.getpid)) - {os.getpid()}))
"""


def test_a_cluster_is_started_for_joblib(home):
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.stdout == "[]\n", done.stderr
