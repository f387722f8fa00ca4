from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.training.capture import Capture
from fisherbo.training.coverage import Layer, examine
from fisherbo.training.events import events
from fisherbo.training.moments import Moments
from fisherbo.training.output_fisher import OutputFisher

Factors = dict[str, tuple[Tensor, Tensor]]
FactorsOf = Callable[..., Factors]


@pytest.fixture
def moments_of() -> Callable[..., dict[Layer, Moments]]:
    """A function that returns the moments of one pass, forward and backward, for each batch given.

    The loss is by default the negative log likelihood of some labels.
    """

    def compute(
        model: nn.Module,
        *batches: Tensor,
        likelihood: str = "normal",
        fisher: str = "type2",
        mc_samples: int = 1,
        seed: int = 0,
        sharing: str = "expand",
        keep: bool = False,
        class_dim: int | None = None,
        loss: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[Layer, Moments]:
        layers, _ = examine(model)
        generator = torch.Generator().manual_seed(seed)
        outputs = OutputFisher(likelihood, fisher, mc_samples, generator, class_dim=class_dim)
        capture = Capture(model, layers, outputs, due=lambda: True, sharing=sharing, keep=keep)
        for batch in batches:
            z = model(batch)
            (some_loss(z, likelihood) if loss is None else loss(z)).backward()
        moments = capture.take()
        capture.remove()
        return moments

    return compute


@pytest.fixture
def factors_of(moments_of: Callable[..., dict[Layer, Moments]]) -> FactorsOf:
    """A function that returns ``{layer name: (A, G)}`` of one forward pass for each batch given."""

    def compute(model: nn.Module, *batches: Tensor, **options: object) -> Factors:
        found = {x.name: m.factors() for x, m in moments_of(model, *batches, **options).items()}
        return {n: (f["input_factor"], f["output_factor"]) for n, f in found.items()}

    return compute


@pytest.fixture
def dense_ggn() -> Callable[..., dict[str, Tensor]]:
    """A function that returns each layer's block of the GGN, by brute force.

    Rows and columns are those of the layer's matrix, flattened; the mean is over the rows and
    positions of the outputs.
    """

    def compute(model: nn.Module, x: Tensor, likelihood: str) -> dict[str, Tensor]:
        layers, _ = examine(model)
        z = events(model(x), likelihood)
        blocks = {layer.name: 0.0 for layer in layers}
        for row in range(z.shape[0]):
            for position in range(z.shape[1]):
                logits = z[row, position]
                hessian = output_hessian(logits.detach(), likelihood)
                for layer in layers:
                    rows = []
                    for output in logits:
                        grads = torch.autograd.grad(output, layer.parameters, retain_graph=True)
                        rows.append(layer.matrix(grads).flatten())
                    jacobian = torch.stack(rows)
                    blocks[layer.name] = blocks[layer.name] + jacobian.T @ hessian @ jacobian
        return {name: block / (z.shape[0] * z.shape[1]) for name, block in blocks.items()}

    return compute


def some_loss(z: Tensor, likelihood: str) -> Tensor:
    """The sum over rows of −log p(y | z) at labels y that do not fit."""
    if likelihood == "categorical":
        z = z.flatten(0, -2) if z.ndim > 1 else z[None]
        return functional.cross_entropy(z, z.argmin(-1), reduction="sum")
    if likelihood == "bernoulli":
        return functional.binary_cross_entropy_with_logits(z, (z < 0).to(z), reduction="sum")
    return 0.5 * (z - z.detach() - 1).square().sum()


def output_hessian(z: Tensor, likelihood: str) -> Tensor:
    """Fisher of the outputs of one row, shape ``(C, C)``."""
    if likelihood == "normal":
        return torch.eye(len(z), dtype=z.dtype)
    if likelihood == "bernoulli":
        return torch.diag(z.sigmoid() * (1 - z.sigmoid()))
    p = z.softmax(0)
    return torch.diag(p) - torch.outer(p, p)
