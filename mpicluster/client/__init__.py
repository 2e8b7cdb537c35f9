"""The client: views, results, and the connection to the hub. Knows no MPI."""
