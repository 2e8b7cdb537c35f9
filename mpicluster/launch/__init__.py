"""How processes are started and ended. Text first, side effects last; knows nothing of hubs, engines or clients."""
