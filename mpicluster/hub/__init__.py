"""The hub: decides who runs what, and routes. Never unpickles, knows no MPI."""
