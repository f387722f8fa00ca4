"""The Gaussian process: warp, kernel, hyperparameters, fit, posterior and its Fisher metrics."""
