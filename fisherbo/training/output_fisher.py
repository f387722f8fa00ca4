"""How the Fisher of a model's outputs is estimated: from which labels its gradients are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fisherbo.training.likelihoods import (
    Likelihood,
    LikelihoodFunction,
    exact_gradients,
    sampled_gradients,
)

Fisher = Literal["mc", "type2", "empirical"]


@dataclass(frozen=True)
class OutputFisher:
    """How the Fisher of the outputs is estimated.

    Attributes:
        likelihood: p(y | z) over one dimension of the outputs z.
        kind: ``"mc"`` (labels drawn from the model), ``"type2"`` (exact, C backward passes) or
            ``"empirical"`` (the labels of the loss).
        mc_samples: Labels drawn for each row.
        generator: Draws the labels.
        reduction: Of the user's loss over rows; the scale of empirical gradients follows from it.
        rank: Number of this process among ``processes`` that train one model; each draws labels of
            its own, while their generators stay alike.
        processes: See ``rank``.
        class_dim: The dimension of the outputs that p(y | z) is over; ``None``: see
            `ClassDimension`.
    """

    likelihood: Likelihood | LikelihoodFunction
    kind: Fisher
    mc_samples: int
    generator: torch.Generator
    reduction: Literal["mean", "sum"] = "mean"
    rank: int = 0
    processes: int = 1
    class_dim: int | None = None

    def columns(self, outputs: Tensor) -> Iterator[Tensor]:
        """Output gradients s, shape ``(N, T, C)`` as ``outputs``; ``E[Σ s sᵀ]`` is the Fisher."""
        if self.kind == "type2":
            yield from exact_gradients(outputs, self.likelihood)
            return
        generator = self._labels()
        for _ in range(self.mc_samples):
            sample = sampled_gradients(outputs, self.likelihood, generator)
            yield sample / self.mc_samples**0.5 if self.mc_samples > 1 else sample

    def _labels(self) -> torch.Generator:
        if self.processes == 1:
            return self.generator
        device = self.generator.device
        seed = torch.randint(2**62, (), generator=self.generator, device=device).item()
        return torch.Generator(device).manual_seed(int(seed) + self.rank)
