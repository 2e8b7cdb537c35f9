"""Linear algebra: ours on two ranks, beside NumPy and SciPy with as many threads, Heat, dask.array and ScaLAPACK."""
