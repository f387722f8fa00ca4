"""One file for each table or figure; each runs as ``python -m experiments.NAME``."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any import of NumPy or torch
