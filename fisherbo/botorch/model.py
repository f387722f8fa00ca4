"""Our Gaussian process, fitted in closed form, as a BoTorch model in the user's units."""

from __future__ import annotations

import numpy as np
import torch
from botorch.models import SingleTaskGP
from torch import Tensor

from fisherbo.botorch.convert import to_botorch
from fisherbo.errors import InvalidInputError
from fisherbo.gp.fit import fit
from fisherbo.gp.hyper import Hyper, prior_mode
from fisherbo.gp.posterior import condition
from fisherbo.space import Array


def fit_model(train_X: Tensor, train_Y: Tensor, bounds: Tensor) -> SingleTaskGP:
    """The Gaussian process of `FisherSampler`, without its warp of the values.

    Matérn-3/2 with a lengthscale for each coordinate, fitted to the penalised marginal likelihood
    by closed-form gradients; a model in evaluation mode, for any BoTorch acquisition.

    Args:
        train_X: Points, shape ``(n, d)``.
        train_Y: Values, larger is better, shape ``(n, 1)``.
        bounds: Lower and upper bounds, shape ``(2, d)``.

    Raises:
        InvalidInputError: If shapes do not agree, bounds are empty or a number is not finite.
    """
    x, y, low, high = _checked(train_X, train_Y, bounds)
    width = high - low
    scale = float(y.std()) or 1.0
    choices = np.zeros(x.shape[1], dtype=np.int64)
    unit, z = (x - low) / width, (y - y.mean()) / scale
    hyper = fit(unit, z, choices, [prior_mode(x.shape[1])])
    own = Hyper(hyper.lengthscale * width, hyper.signal * scale**2, hyper.noise * scale**2)
    return to_botorch(condition(x, y, choices, own, constant=float(y.mean())))


def _checked(train_X: Tensor, train_Y: Tensor, bounds: Tensor) -> tuple[Array, Array, Array, Array]:
    n, d = train_X.shape if train_X.ndim == 2 else (0, 0)
    shapes = tuple(tuple(t.shape) for t in (train_X, train_Y, bounds))
    if not n or shapes != ((n, d), (n, 1), (2, d)):
        raise InvalidInputError(
            "train_X, train_Y and bounds must have shapes (n, d), (n, 1) and (2, d), "
            f"got {shapes}; add a dimension with [:, None] where one is missing"
        )
    arrays = [t.detach().to("cpu", torch.float64).numpy() for t in (train_X, train_Y, bounds)]
    if not all(np.isfinite(a).all() for a in arrays):
        raise InvalidInputError("train_X, train_Y and bounds must be finite; drop such rows")
    x, y, (low, high) = arrays
    if not (low < high).all():
        raise InvalidInputError(f"bounds[0] must be below bounds[1], got {bounds.tolist()}")
    return x, y[:, 0], low, high
