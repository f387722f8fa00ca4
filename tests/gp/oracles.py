"""Gaussian processes by other means: element by element, and by GPyTorch."""

import gpytorch
import numpy as np
import torch

from fisherbo.gp.hyper import Hyper

NUMERIC = np.zeros(3, dtype=np.int64)
MIXED = np.array([0, 4, 0])


def draw(seed, n=12, choices=NUMERIC):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3))
    for j in choices.nonzero()[0]:
        x[:, j] = rng.integers(choices[j], size=n) / (choices[j] - 1)
    hyper = Hyper(
        rng.uniform(0.2, 1.5, 3), float(rng.uniform(0.5, 2)), float(rng.uniform(0.01, 0.2))
    )
    return x, rng.standard_normal(n), hyper


def dense_covariance(a, b, choices, hyper):
    k = np.empty((len(a), len(b)))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            delta2 = np.where(choices > 0, (p != q).astype(float), (p - q) ** 2)
            t = np.sqrt(3 * (delta2 / hyper.lengthscale**2).sum())
            k[i, j] = hyper.signal * (1 + t) * np.exp(-t)
    return k


def gpytorch_model(x, y, hyper):
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(1.5, ard_num_dims=3))
    likelihood = gpytorch.likelihoods.GaussianLikelihood()

    class Model(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(torch.tensor(x), torch.tensor(y), likelihood)
            self.mean, self.kernel = gpytorch.means.ZeroMean(), kernel

        def forward(self, z):
            return gpytorch.distributions.MultivariateNormal(self.mean(z), self.kernel(z))

    model = Model().double()
    model.kernel.base_kernel.lengthscale = torch.tensor(hyper.lengthscale)
    model.kernel.outputscale = hyper.signal
    likelihood.noise = hyper.noise
    return model
