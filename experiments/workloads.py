"""Small networks in ordinary minibatch loops, for `experiments.development` and `.minibatch`.

`DEVELOPMENT` are the sixteen on which the defaults of `fisherbo.KFAC` were chosen, `HELD_OUT` four
that were looked at afterwards only, `REPORTED` the four of the comparison.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import (
    load_digits,
    make_classification,
    make_friedman1,
    make_friedman2,
    make_gaussian_quantiles,
    make_multilabel_classification,
)
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.errors import NumericalError
from fisherbo.training import Likelihood, autoencoder

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Workload:
    """A network in a loop.

    Attributes:
        build: A seed to a network with new weights.
        batch: A seed and a number of steps to the batch of that step.
        loss: Of outputs and targets, mean over rows.
        likelihood: Whose negative logarithm it is.
        steps: Steps of a run.
        target: Smoothed loss to reach, where one is set.
    """

    build: Callable[[int], nn.Module]
    batch: Callable[[int, int], Batch]
    loss: Loss
    likelihood: Likelihood
    steps: int
    target: float = 0.0


def token_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over all positions of all sequences."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def half_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """½ ‖z − y‖², mean over rows."""
    return 0.5 * (output - target).square().sum(-1).mean()


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Summed over outputs, mean over rows."""
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return losses.sum(-1).mean()


# Data


def shuffled(x: Tensor, y: Tensor, size: int) -> Callable[[int, int], Batch]:
    """Batches without replacement, in a new order each epoch."""

    def batch(seed: int, step: int) -> Batch:
        epoch, place = divmod(step, max(1, len(x) // size))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        rows = order[place * size : (place + 1) * size]
        return x[rows], y[rows]

    return batch


def crops(text: Callable[[], tuple[Tensor, int]], size: int, length: int) -> Any:
    """Random pieces of a text and the same pieces one character later."""

    def batch(seed: int, step: int) -> Batch:
        characters, _ = text()
        generator = torch.Generator().manual_seed(100_003 * seed + step)
        starts = torch.randint(len(characters) - length - 1, (size, 1), generator=generator)
        piece = characters[starts + torch.arange(length + 1)]
        return piece[:, :-1], piece[:, 1:]

    return batch


@cache
def digits() -> Batch:
    """The first 1,500 digits, standardised as a whole."""
    found = load_digits()
    x = torch.tensor(found.data, dtype=torch.float32)
    return ((x - x.mean()) / x.std())[:1500], torch.tensor(found.target)[:1500]


@cache
def documentation() -> tuple[Tensor, int]:
    """Python's reference manual as numbers of characters, and how many there are."""
    return encoded("".join(topics[name] for name in sorted(topics))[:300_000])


@cache
def source() -> tuple[Tensor, int]:
    """Source code of Python's library, likewise."""
    import argparse
    import ast
    import inspect as inspection
    import typing

    modules = (argparse, ast, inspection, typing)
    return encoded("".join(map(inspect.getsource, modules))[:300_000])


def encoded(text: str) -> tuple[Tensor, int]:
    number = {character: index for index, character in enumerate(sorted(set(text)))}
    return torch.tensor([number[character] for character in text]), len(number)


def table(x: Any, y: Any, size: int) -> Callable[[int, int], Batch]:
    """Batches of a table with standardised columns and targets."""
    columns = torch.tensor(x, dtype=torch.float32)
    targets = torch.tensor(y, dtype=torch.float32)[:, None]
    return shuffled(standardised(columns), standardised(targets), size)


def standardised(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0)


# Networks


def seeded(make: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    return build


def perceptron(
    widths: Sequence[int], activation: type[nn.Module] = nn.ReLU, norm: Any = None
) -> nn.Sequential:
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules += [nn.Linear(inputs, outputs), *([norm(outputs)] if norm else []), activation()]
    return nn.Sequential(*modules[: -2 if norm else -1])


class Image(nn.Module):
    """64 columns as an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(N, 1, 8, 8)``."""
        return x.unflatten(-1, (1, 8, 8))


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = inputs == outputs
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if same else nn.Sequential(projection, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps."""
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def resnet(*widths: int) -> nn.Sequential:
    """A residual block a width, after a first convolution."""
    stem = [Image(), nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])]
    blocks = [Residual(widths[0], widths[0])]
    blocks += [Residual(a, b, 2) for a, b in pairwise(widths)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10)]
    return nn.Sequential(*stem, nn.ReLU(), *blocks, *head)


def convolutions(width: int = 16) -> nn.Sequential:
    return nn.Sequential(
        *(Image(), nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * width, 10)),
    )


def depthwise() -> nn.Sequential:
    return nn.Sequential(
        *(Image(), nn.Conv2d(1, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=32)),
        *(nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 32, 1), nn.SiLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )


class Attention(nn.Module):
    """A pre-norm block of causal self-attention and a hidden layer."""

    def __init__(self, width: int, norm: Any, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = norm(width), norm(width)
        self.projections, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        """Shape ``(N, T, width)``."""
        parts = self.projections(self.before(h)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.mix(attended.transpose(1, 2).flatten(2))
        return h + self.hidden(self.between(h))


class Gpt(nn.Module):
    """Characters to logits of the next ones."""

    def __init__(
        self,
        symbols: int,
        width: int,
        depth: int,
        length: int,
        tied: bool = False,
        norm: Any = None,
    ) -> None:
        super().__init__()
        norm = nn.LayerNorm if norm is None else norm
        self.symbol, self.place = nn.Embedding(symbols, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Attention(width, norm) for _ in range(depth)))
        self.norm, self.out = norm(width), nn.Linear(width, symbols, bias=False)
        for module in (self.symbol, self.place, self.out):
            nn.init.normal_(module.weight, std=0.02)
        if tied:
            self.out.weight = self.symbol.weight

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, T, symbols)``."""
        places = torch.arange(x.shape[1]).expand(x.shape)
        logits: Tensor = self.out(self.norm(self.blocks(self.symbol(x) + self.place(places))))
        return logits


# Workloads


def of_digits(make: Callable[[], nn.Module], size: int, steps: int, noise: float = 0.0) -> Workload:
    x, y = digits()
    if noise:
        generator = torch.Generator().manual_seed(5)
        wrong = torch.rand(len(y), generator=generator) < noise
        y = torch.where(wrong, torch.randint(10, (len(y),), generator=generator), y)
    batch = shuffled(x, y, size)
    return Workload(seeded(make), batch, functional.cross_entropy, "categorical", steps)


def of_text(
    text: Callable[[], tuple[Tensor, int]],
    width: int,
    size: int,
    length: int,
    steps: int,
    **options: Any,
) -> Workload:
    symbols = text()[1]
    build = seeded(lambda: Gpt(symbols, width, 2, length, **options))
    return Workload(build, crops(text, size, length), token_cross_entropy, "categorical", steps)


def of_table(
    make: Callable[[], nn.Module], data: tuple[Any, Any], size: int, steps: int
) -> Workload:
    return Workload(seeded(make), table(*data, size), half_squared_error, "normal", steps)


def quantiles() -> Workload:
    x, y = make_gaussian_quantiles(n_samples=12_000, n_features=10, n_classes=4, random_state=0)
    batch = shuffled(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 256)
    build = seeded(lambda: perceptron((10, 100, 4)))
    return Workload(build, batch, functional.cross_entropy, "categorical", 400)


def classes() -> Workload:
    x, y = make_classification(
        2000, 20, n_informative=12, n_classes=5, class_sep=0.7, random_state=0
    )
    batch = shuffled(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 50)
    build = seeded(lambda: perceptron((20, 512, 512, 5)))
    return Workload(build, batch, functional.cross_entropy, "categorical", 400)


def digits_autoencoder() -> Workload:
    x = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    return Workload(
        lambda seed: autoencoder(64, seed=seed),
        shuffled(x, x, len(x)),
        binary_cross_entropy,
        "bernoulli",
        100,
    )


def labels() -> Workload:
    x, y = make_multilabel_classification(4000, 30, n_classes=12, random_state=0)
    columns = torch.tensor(x, dtype=torch.float32)
    columns = (columns - columns.mean(0)) / columns.std(0)
    batch = shuffled(columns, torch.tensor(y, dtype=torch.float32), 64)
    build = seeded(lambda: perceptron((30, 64, 64, 12), nn.SiLU, nn.LayerNorm))
    return Workload(build, batch, binary_cross_entropy, "bernoulli", 300)


Make = Callable[[], Workload]

DEVELOPMENT: dict[str, Make] = {
    "relu 128": lambda: of_digits(lambda: perceptron((64, 128, 64, 10)), 128, 150),
    "tanh full": lambda: of_digits(lambda: perceptron((64, 128, 64, 10), nn.Tanh), 1500, 60),
    "softmax 64": lambda: of_digits(lambda: perceptron((64, 10)), 64, 200),
    "deep 256": lambda: of_digits(lambda: perceptron((64,) * 10 + (10,)), 256, 200),
    "LayerNorm 32, noisy": lambda: of_digits(
        lambda: perceptron((64, 128, 128, 10), nn.GELU, nn.LayerNorm), 32, 300, 0.2
    ),
    "BatchNorm 128": lambda: of_digits(convolutions, 128, 80),
    "depthwise 64": lambda: of_digits(depthwise, 64, 150),
    "ResNet 64": lambda: of_digits(lambda: resnet(16, 32), 64, 80),
    "GPT 16 x 64": lambda: of_text(documentation, 64, 16, 64, 200),
    "GPT tied 8 x 32": lambda: of_text(documentation, 32, 8, 32, 300, tied=True),
    "Friedman 256": lambda: of_table(
        lambda: perceptron((10, 64, 64, 1), nn.GELU),
        make_friedman1(10_000, 10, noise=1.0, random_state=0),
        256,
        300,
    ),
    "noise 32": lambda: of_table(
        lambda: perceptron((10, 64, 64, 1)),
        make_friedman1(10_000, 10, noise=10.0, random_state=1),
        32,
        400,
    ),
    "quantiles 256": quantiles,
    "wide 50": classes,
    "wide BatchNorm 100": lambda: of_digits(lambda: convolutions(48), 100, 150),
    "autoencoder full": digits_autoencoder,
}

HELD_OUT: dict[str, Make] = {
    "sigmoid 50": lambda: of_digits(lambda: perceptron((64, 80, 80, 10), nn.Sigmoid), 50, 300),
    "RMSNorm GPT 8 x 48": lambda: of_text(source, 48, 8, 48, 200, norm=nn.RMSNorm),
    "labels 64": labels,
    "Friedman 16": lambda: of_table(
        lambda: perceptron((4, 100, 100, 1), nn.Tanh),
        make_friedman2(5_000, noise=100.0, random_state=3),
        16,
        500,
    ),
}

REPORTED: dict[str, Make] = {
    "digits, MLP": lambda: of_digits(lambda: perceptron((64, 256, 256, 10)), 100, 300),
    "digits, ResNet": lambda: of_digits(lambda: resnet(16, 32, 64), 100, 150),
    "source code, GPT": lambda: of_text(source, 64, 16, 64, 240),
    "table, MLP": lambda: of_table(
        lambda: perceptron((4, 128, 128, 1), nn.SiLU),
        make_friedman2(20_000, noise=50.0, random_state=7),
        128,
        400,
    ),
}

WINDOW = 10  # batches that a loss is the mean of


def training(
    workload: Workload, optimizer_of: Callable[[nn.Module], Any], seed: int
) -> Iterator[tuple[float, float]]:
    """Loss of each batch before its step, and the CPU seconds until then; ends with a failure."""
    model = workload.build(seed)
    optimizer = optimizer_of(model)
    spent = 0.0
    for step in range(workload.steps):
        x, y = workload.batch(seed, step)
        start = time.process_time()
        optimizer.zero_grad()
        loss = workload.loss(model(x), y)
        loss.backward()
        value, before = loss.item(), spent
        try:
            optimizer.step()
        except (NumericalError, RuntimeError):  # a peer's factorisation of what is not finite
            value = math.inf
        spent += time.process_time() - start
        yield value, before
        if not math.isfinite(value):
            return


def train(
    workload: Workload, optimizer_of: Callable[[nn.Module], Any], seed: int
) -> tuple[list[float], list[float]]:
    """Losses of the batches before each step, and CPU seconds; a run that fails ends with inf."""
    losses, seconds = zip(*training(workload, optimizer_of, seed), strict=True)
    return list(losses), list(seconds)


def smoothed(losses: Sequence[float]) -> NDArray[np.float64]:
    """Means over the last `WINDOW` batches."""
    sums = np.cumsum(np.insert(np.asarray(losses, dtype=np.float64), 0, 0.0))
    width = min(WINDOW, len(losses))
    return (sums[width:] - sums[:-width]) / width
