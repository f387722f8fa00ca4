"""One file for each table or figure; each runs as ``python -m experiments.NAME``."""
