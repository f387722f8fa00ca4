"""Our posterior as a BoTorch model, and exact Matérn-3/2 models of BoTorch as our posterior.

Symbols: u, z inputs and outputs in the model's units; x = o + c u if its inputs are normalised,
y = m + v z if its outputs are standardised. In the units of x and y the lengthscales are c ℓ and
the variances v² σ² and v² τ².
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms.input import Normalize
from botorch.models.transforms.outcome import Standardize
from gpytorch.constraints import Positive
from gpytorch.kernels import Kernel, MaternKernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood, Likelihood
from gpytorch.means import ConstantMean, Mean, ZeroMean
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import Posterior, condition
from fisherbo.kinds import LEAST, SHARE, Kinds
from fisherbo.space import Array, Integers


class MixedMatern(MaternKernel):  # type: ignore[misc]  # GPyTorch is untyped
    """Matérn-3/2 with a lengthscale for each coordinate; categories differ by 0 or 1 inside r².

    A category is its index divided by the number of choices − 1, as everywhere in fisherbo.

    Args:
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``, or
            what the coordinates are if there is more to tell.
        rotation: R, orthogonal, shape ``(d, d)``, if the lengthscales are those of ``R x``; it
            leaves categories and weights alone.
    """

    def __init__(self, choices: Integers | Kinds, rotation: Array | None = None) -> None:
        super().__init__(nu=1.5, ard_num_dims=len(choices))
        self.kinds = Kinds.of(choices)
        self.rotation = rotation

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        """Correlations of shape ``(*b, n, m)``, or ``(*b, n)`` of rows with ``diag``."""
        a, b = math.sqrt(3) * self._embed(x1), math.sqrt(3) * self._embed(x2)
        exactly = "donot_use_mm_for_euclid_dist"  # gradients near a point need small distances
        t = torch.linalg.norm(a - b, dim=-1) if diag else torch.cdist(a, b, compute_mode=exactly)
        return (1 + t) * torch.exp(-t)

    def _embed(self, x: Tensor) -> Tensor:
        """Vectors at Euclidean distance r: scaled numbers, and categories as scaled one-hots."""
        x = self._inputs(x)
        x = x if self.rotation is None else x @ _tensor(self.rotation.T).to(x)
        numeric = self.kinds.choices == 0
        parts = [x[..., numeric] / self.lengthscale[..., numeric]]
        for j in (~numeric).nonzero()[0]:
            count = int(self.kinds.choices[j])
            index = torch.round(x[..., j, None] * max(count - 1, 1))
            onehot = (index == torch.arange(count)).to(x)
            vectors = self.kinds.vectors.get(int(j))
            known = onehot * math.sqrt(0.5) if vectors is None else onehot @ _tensor(vectors).to(x)
            parts.append(known / self.lengthscale[..., j, None])
        return torch.cat(parts, -1)

    def _inputs(self, x: Tensor) -> Tensor:
        """As `Kinds.inputs`."""
        x = x.clone() if self.kinds.simplices else x
        for index in self.kinds.simplices:
            h = torch.erfinv(SHARE * x[..., index].clamp(LEAST, 1.0))
            x[..., index] = h / torch.linalg.norm(h, dim=-1, keepdim=True)
        return x


def to_botorch(posterior: Posterior) -> SingleTaskGP:
    """An exact GP in evaluation mode that predicts as ``posterior`` does, in float64.

    The two agree to 1e-8 if the covariance is well conditioned and n ≤ 800; beyond that, GPyTorch
    solves iteratively.
    """
    x, y = _tensor(posterior.x), _tensor(posterior.y)[:, None]
    kinds, hyper = Kinds.of(posterior.choices), posterior.hyper
    kernel = MaternKernel(1.5, ard_num_dims=len(kinds))
    if kinds.choices.any() or kinds.simplices or hyper.rotation is not None:
        kernel = MixedMatern(kinds, hyper.rotation)
    covariance = ScaleKernel(kernel)
    model = SingleTaskGP(x, y, None, _likelihood(posterior), covariance, outcome_transform=None)
    model.mean_module.constant = _tensor(posterior.constant)
    kernel.lengthscale = _tensor(hyper.lengthscale)
    covariance.outputscale = _tensor(hyper.signal)
    return model.requires_grad_(False).eval()


def from_botorch(model: Any) -> Posterior:
    """The posterior that predicts as ``model`` does.

    Args:
        model: An exact GP with one output in evaluation mode: a scaled Matérn-3/2 or `MixedMatern`
            kernel over all inputs, zero or constant mean, Gaussian noise (one variance, or one for
            each observation, of which the largest is used for the next observation); inputs as they
            are or normalised, outputs as they are or standardised.

    Raises:
        InvalidInputError: If the model is of another kind.
    """
    _require(isinstance(model, SingleTaskGP), "a BoTorch SingleTaskGP", model)
    _require(not model.training, "a model in evaluation mode", "one in training mode: call .eval()")
    _require(model.train_targets.ndim == 1, "a model with one output and no batch", model)
    offset, width = _input_units(getattr(model, "input_transform", None))
    level, scale = _output_units(getattr(model, "outcome_transform", None))
    signal, kernel = _kernel(model.covar_module)
    u, z = _array(model.train_inputs[0]), _array(model.train_targets)
    lengthscale = np.broadcast_to(_array(kernel.lengthscale).ravel(), u.shape[1])
    nugget = scale**2 * np.broadcast_to(_noise(model.likelihood), z.shape)
    kinds, rotation = Kinds(np.zeros(u.shape[1], np.int64)), None
    if isinstance(kernel, MixedMatern):
        kinds, rotation = kernel.kinds, kernel.rotation
    alike = rotation is None or (width == width[0]).all()
    _require(alike, "inputs of one width under a rotation", "several widths")
    hyper = Hyper(lengthscale * width, scale**2 * signal, float(nugget.max()), rotation)
    constant = level + scale * _constant(model.mean_module)
    x, y = offset + width * u, level + scale * z
    return condition(x, y, kinds, hyper, nugget=nugget, constant=constant)


def _likelihood(posterior: Posterior) -> Likelihood:
    if (posterior.nugget != posterior.noise).any():
        return FixedNoiseGaussianLikelihood(noise=_tensor(posterior.nugget))
    likelihood = GaussianLikelihood(noise_constraint=Positive()).double()
    likelihood.noise = _tensor(posterior.noise)
    return likelihood


def _kernel(module: Kernel) -> tuple[float, MaternKernel]:
    """Signal variance and Matérn kernel of a scaled or bare Matérn-3/2."""
    signal, kernel = 1.0, module
    if type(module) is ScaleKernel:
        signal, kernel = float(module.outputscale.detach()), module.base_kernel
    known = type(kernel) in (MaternKernel, MixedMatern) and kernel.nu == 1.5
    _require(known, "a scaled Matérn-3/2 kernel", kernel)
    active = kernel.active_dims is None and module.active_dims is None
    _require(active, "a kernel over all inputs", "one with active_dims")
    return signal, kernel


def _constant(mean: Mean) -> float:
    if type(mean) is ZeroMean:
        return 0.0
    _require(type(mean) is ConstantMean, "a zero or constant mean", mean)
    return float(mean.constant.detach())


def _noise(likelihood: Likelihood) -> Array:
    known = type(likelihood) in (GaussianLikelihood, FixedNoiseGaussianLikelihood)
    _require(known, "a Gaussian likelihood", likelihood)
    return _array(likelihood.noise)


def _input_units(transform: object) -> tuple[Array, Array]:
    """Offset and width of ``x = offset + width · u``."""
    if transform is None:
        return np.zeros(1), np.ones(1)
    plain = type(transform) is Normalize and not hasattr(transform, "indices")
    _require(plain, "inputs as they are or all normalised by Normalize", transform)
    assert isinstance(transform, Normalize)
    return _array(transform.offset).ravel(), _array(transform.coefficient).ravel()


def _output_units(transform: object) -> tuple[float, float]:
    """Level and scale of ``y = level + scale · z``."""
    if transform is None:
        return 0.0, 1.0
    _require(type(transform) is Standardize, "outputs as they are or standardised", transform)
    assert isinstance(transform, Standardize)
    return float(transform.means), float(transform.stdvs)


def _require(rule: Any, wanted: str, got: object) -> None:
    if not rule:
        name = got if isinstance(got, str) else type(got).__name__
        raise InvalidInputError(
            f"from_botorch needs {wanted}, got {name}; "
            "wrap any other model with fisherbo.botorch.surrogate.AutogradSurrogate"
        )


def _tensor(values: Array | float) -> Tensor:  # a float alone would be rounded to float32
    return torch.tensor(values, dtype=torch.float64)


def _array(values: Any) -> Array:
    return values.detach().to(torch.float64).numpy()
