"""Sums over the processes that train one model together (`torch.distributed`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, distributed

from fisherbo.training.coverage import Layer
from fisherbo.training.moments import Moments


def rank_and_size(shared: bool) -> tuple[int, int]:
    """Rank and number of the processes of the default group; (0, 1) without one."""
    if shared and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes: one message for each dtype."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # in the same order in all
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        message = torch.cat([tensor.flatten() for tensor in same])
        distributed.all_reduce(message)
        for tensor, part in zip(same, message.split([t.numel() for t in same]), strict=True):
            tensor.copy_(part.reshape(tensor.shape))


def sum_moments(layers: Iterable[Layer], moments: Mapping[Layer, Moments]) -> None:
    """Add up the moments of all processes, in place; all must have seen the same layers."""
    seen = [moments[layer] for layer in layers if layer in moments]
    if not seen:
        return
    counts = torch.tensor(
        [[m.input_rows, m.output_rows] for m in seen], device=seen[0].outputs.device
    )
    sum_over_processes([counts, *(tensor for m in seen for tensor in m.sums)])
    for moment, (inputs, outputs) in zip(seen, counts.tolist(), strict=True):
        moment.input_rows, moment.output_rows = inputs, outputs
