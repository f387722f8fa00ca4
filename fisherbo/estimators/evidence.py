"""Weight decay by the evidence (MacKay 1992), from the Kronecker factors of the Fisher information.

Symbols: n rows, N targets; λ eigenvalues of the layers' A ⊗ G, the Fisher information of the mean
loss; α weight decay; γ effective number of weights; s noise variance (1 for classes and labels).

    γ = Σ λ/(λ + α),    s = RSS/(N − γ),    α ← s γ/(n |w|²)        MacKay (1992), § 4

It is repeated during training (Immer et al. 2021) and costs about as much as a step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.estimators.learning import Rows
from fisherbo.geometry.linalg import psd_eigenvalues

MOST_ROWS = 1024  # that the factors are means over
MOST_KNOWN = 0.9  # share of N that γ may be: A ⊗ G has more eigenvalues than the rows tell apart
LEAST, MOST = 1e-6, 1.0  # α, in scaled units
SHARE = 0.5  # of the way to the new α, in its logarithm


def first_guess(count: int) -> float:
    """α before training: 10 weights' worth of rows among `count`, at most .03."""
    return min(0.03, 10 / count)


def updated(alpha: float, model: nn.Sequential, rows: Rows, generator: torch.Generator) -> float:
    """α after one step towards the maximum of the evidence, at the weights as they are.

    Args:
        alpha: α so far.
        model: linear layers and activations.
        rows: training rows; the factors are means over `MOST_ROWS` of them.
        generator: draws these rows and the labels of the Fisher information.
    """
    count = len(rows.x)
    chosen = torch.randperm(count, generator=generator)[:MOST_ROWS]
    some = rows.take(chosen.numpy())
    inputs, outputs = _traced(model, some.x)
    score = _score(outputs[-1].detach(), some, generator)
    gradients = torch.autograd.grad(outputs[-1], outputs, score)
    eigenvalues = torch.cat(
        [_kronecker(a, g).flatten() for a, g in zip(inputs, gradients, strict=True)]
    )
    targets = count * (1 if rows.likelihood == "categorical" else outputs[-1].shape[1])
    known = min(float((eigenvalues / (eigenvalues + alpha)).sum()), MOST_KNOWN * targets)
    noise = 1.0
    if rows.likelihood == "normal":
        loss = float(rows.loss(outputs[-1].detach(), some.y))
        noise = 2 * loss * count / (targets - known)
    aim = noise * known / (count * squared_norm(model))
    if not math.isfinite(aim):
        return alpha
    aim = min(max(aim, LEAST), MOST)
    return math.exp((1 - SHARE) * math.log(alpha) + SHARE * math.log(aim))


def squared_norm(model: nn.Module) -> float:
    """|w|² of all weights and biases."""
    return sum(float(w.detach().square().sum()) for w in model.parameters())


def _traced(model: nn.Sequential, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the linear layers; no hook of an optimizer sees them."""
    inputs, outputs = [], []
    for module in model:
        if isinstance(module, nn.Linear):
            inputs.append(x.detach())
            outputs.append(functional.linear(x, module.weight, module.bias))
            x = outputs[-1]
        else:
            x = module(x)
    return inputs, outputs


def _score(output: Tensor, rows: Rows, generator: torch.Generator) -> Tensor:
    """Gradients of √weight log p(label) at the outputs, the labels drawn from the network's p."""
    if rows.likelihood == "categorical":
        mean = output.softmax(1)
        label = torch.multinomial(mean, 1, generator=generator)[:, 0]
        score = functional.one_hot(label, output.shape[1]) - mean
    elif rows.likelihood == "bernoulli":
        mean = output.sigmoid()
        score = torch.bernoulli(mean, generator=generator) - mean
    else:  # signs have the covariance of normal draws and vary less
        score = torch.randint(0, 2, output.shape, generator=generator) * 2.0 - 1.0
    return score * rows.y[:, -1:].sqrt() if rows.weighted else score


def _kronecker(a: Tensor, g: Tensor) -> Tensor:
    """Eigenvalues of A ⊗ G, from a layer's inputs and the gradients at its outputs, by rows."""
    with_bias = torch.cat([a, a.new_ones(len(a), 1)], 1)
    return torch.outer(_second_moment(with_bias), _second_moment(g))


def _second_moment(rows: Tensor) -> Tensor:
    """Eigenvalues of the mean of r rᵀ that may differ from zero."""
    count, width = rows.shape
    moment = rows @ rows.T if count < width else rows.T @ rows
    return psd_eigenvalues(moment.double() / count)
