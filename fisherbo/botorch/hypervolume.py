"""Cells of the region that a Pareto front does not dominate, by BoTorch's box decomposition."""

from __future__ import annotations

import torch
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning

from fisherbo.acquisition.log_ehvi import Cells
from fisherbo.space import Array


def decompose(front: Array, reference: Array) -> Cells:
    """Cells of what beats ``reference`` ``(m,)`` and is not dominated by points ``(p, m)``."""
    boxes = FastNondominatedPartitioning(
        torch.tensor(reference, dtype=torch.float64), torch.tensor(front, dtype=torch.float64)
    )
    low, high = boxes.get_hypercell_bounds().numpy()
    return Cells.of(low, high)
