"""NumPy."""

from __future__ import annotations

from benchmarks.linalg.one_process import numpy_measurements, opener
from benchmarks.take import take

if __name__ == "__main__":
    take(opener(numpy_measurements))
