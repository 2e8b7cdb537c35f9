"""Arrays that live on engines, as a client sees them: ``rc.xp``. Needs no MPI."""
