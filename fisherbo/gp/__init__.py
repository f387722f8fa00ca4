"""From data to a posterior: warps, kernel, hyperparameters, Gaussian process, its metrics."""
