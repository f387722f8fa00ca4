"""The four learning problems of `experiments.kfac`: data, network, loss, target and budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.training import autoencoder
from fisherbo.tuning import data, tasks
from fisherbo.tuning.losses import LOSSES, Loss

SYMBOLS, LENGTH = 5, 16


@dataclass(frozen=True, eq=False)
class Problem:
    """A training loss to be brought down.

    Attributes:
        build: A seed to a network with new weights.
        data: All rows (x, y); every step sees them all.
        loss: What is minimised, mean over rows.
        offset: Subtracted from the loss in all that is printed: its least possible value.
        target: The loss to reach; ``None``: as low as possible in the budget.
        seconds: CPU seconds of a run.
        max_steps: Steps of a run; ``None``: what the optimizer's search space declares.
    """

    build: Callable[[int], nn.Module]
    data: tuple[Tensor, Tensor]
    loss: Loss
    target: float | None
    seconds: float
    max_steps: int | None = None
    offset: float = 0.0


def digits_autoencoder() -> Problem:
    """Martens' kind of autoencoder, 64-128-64-32-8 mirrored, on all 1797 digits."""
    task = tasks.make_task(data.load("digits"), "autoencoder")
    return Problem(
        lambda seed: autoencoder(64, tasks.AUTOENCODER_HIDDEN, seed=seed),
        task.train,
        task.loss,
        task.target,
        seconds=60.0,
        offset=task.offset,
    )


def curves_autoencoder() -> Problem:
    """A 196-100-50-25-6 mirrored autoencoder on 1000 images of curves, after Hinton (2006)."""
    x = curves(1000, 14, seed=0)
    return Problem(
        lambda seed: autoencoder(196, (100, 50, 25, 6), seed=seed),
        (x, x),
        LOSSES["bernoulli"],
        target=None,
        seconds=15.0,
        max_steps=1500,
        offset=tasks.entropy(x),
    )


def digits_convnet() -> Problem:
    """Two convolutions and a linear layer, 6 thousand weights, on all 1797 digits."""
    table = data.load("digits")
    assert table.target is not None
    images = torch.tensor(table.inputs.to_numpy(), dtype=torch.float32).reshape(-1, 1, 8, 8)
    return Problem(
        convnet,
        (images, torch.tensor(table.target.to_numpy())),
        LOSSES["cross_entropy"],
        target=0.01,
        seconds=20.0,
        max_steps=1500,
    )


def sequence_transformer() -> Problem:
    """A block of attention on 256 sequences of 16 symbols: their running sum modulo 5."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(SYMBOLS, (256, LENGTH), generator=generator)
    return Problem(
        Transformer,
        (x, x.cumsum(1) % SYMBOLS),
        Loss("token_cross_entropy", token_cross_entropy, "categorical"),
        target=0.05,
        seconds=20.0,
        max_steps=1500,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "autoencoder": digits_autoencoder,
    "curves": curves_autoencoder,
    "convnet": digits_convnet,
    "transformer": sequence_transformer,
}


def curves(count: int, size: int, seed: int) -> Tensor:
    """Images of quadratic Bézier curves through random points, shape ``(count, size²)`` in [0, 1].

    A pixel is exp(−d²) of its distance d in pixels from the curve.
    """
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, 2, generator=generator) * (size - 3) + 1
    t = torch.linspace(0, 1, 4 * size)[:, None]
    weights = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], dim=-1)  # (samples, 1, 3)
    path = (weights.squeeze(1) @ points).reshape(count, -1, 2)
    axis = torch.arange(size, dtype=torch.float32)
    grid = torch.cartesian_prod(axis, axis)
    return torch.exp(-torch.cdist(grid.expand(count, -1, -1), path).amin(-1).square())


def token_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, mean over all positions of all sequences."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def convnet(seed: int) -> nn.Module:
    """8 and 16 channels of 3 × 3, tanh, and a linear layer of 10 logits."""
    return _seeded(
        seed,
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh()),
            *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(256, 10)),
        ),
    )


class Transformer(nn.Module):
    """Embedding, one pre-norm block of attention and a hidden layer, logits at each position."""

    WIDTH, HEADS, HIDDEN = 32, 2, 64

    def __init__(self, seed: int) -> None:
        super().__init__()
        width = self.WIDTH

        def fill() -> None:
            self.symbol = nn.Embedding(SYMBOLS, width)
            self.place = nn.Embedding(LENGTH, width)
            self.before = nn.LayerNorm(width)
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
            self.value, self.mix = nn.Linear(width, width), nn.Linear(width, width)
            self.hidden = nn.Sequential(
                *(nn.LayerNorm(width), nn.Linear(width, self.HIDDEN)),
                *(nn.GELU(), nn.Linear(self.HIDDEN, width)),
            )
            self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, SYMBOLS))

        _seeded(seed, fill)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(rows, positions, symbols)`` of symbols ``(rows, positions)``."""
        places = torch.arange(x.shape[1]).expand(x.shape)
        h = self.symbol(x) + self.place(places)
        normed = self.before(h)
        q, k, v = (
            part(normed).unflatten(-1, (self.HEADS, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v)
        h = h + self.mix(attended.transpose(1, 2).flatten(2))
        h = h + self.hidden(h)
        logits: Tensor = self.out(h)
        return logits


def _seeded(seed: int, make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
