from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fisherbo.training.capture import Capture, OutputFisher
from fisherbo.training.coverage import examine

Factors = dict[str, tuple[Tensor, Tensor]]
FactorsOf = Callable[..., Factors]


@pytest.fixture
def factors_of() -> FactorsOf:
    """A function that returns ``{layer name: (A, G)}`` of one forward pass for each batch given."""

    def compute(
        model: nn.Module,
        *batches: Tensor,
        likelihood: str = "normal",
        fisher: str = "type2",
        mc_samples: int = 1,
        seed: int = 0,
    ) -> Factors:
        layers, _ = examine(model)
        generator = torch.Generator().manual_seed(seed)
        outputs = OutputFisher(likelihood, fisher, mc_samples, generator)
        capture = Capture(model, layers, outputs, due=lambda: True)
        for batch in batches:
            model(batch)
        moments = capture.take()
        capture.remove()
        return {layer.name: moment.factors() for layer, moment in moments.items()}

    return compute
