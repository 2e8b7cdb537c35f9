"""Objects to buffers and back. Knows no messages, no sockets and no MPI."""
