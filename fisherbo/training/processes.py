"""What the processes that train one model together (`torch.distributed`) exchange.

All of them must call each of these functions at the same time. No decision of a step depends on
what one process alone saw: counts, losses and failures are summed first, so that all go on, or all
raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, distributed

from fisherbo.errors import InvalidInputError
from fisherbo.training.coverage import Layer
from fisherbo.training.moments import Moments, empty_moments


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


def sums(numbers: Sequence[float], device: torch.device) -> list[float]:
    """The sum over the processes of each number."""
    total = torch.tensor(list(numbers), dtype=torch.float64, device=device)
    sum_over_processes([total])
    return total.tolist()


def received(tensors: Sequence[Tensor], source: int) -> list[Tensor]:
    """The tensors of one process, which have the same shapes and dtypes in all."""
    found: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
        message = torch.cat([tensors[index].flatten() for index in same])
        distributed.broadcast(message, source)
        parts = message.split([tensors[index].numel() for index in same])
        for index, part in zip(same, parts, strict=True):
            found[index] = part.reshape(tensors[index].shape).clone()
    return [found[index] for index in range(len(tensors))]


def shares(costs: Sequence[float], processes: int) -> list[int]:
    """The process that does each task: the dearest first, each to the one with the least to do."""
    owners, load = [0] * len(costs), [0.0] * processes
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = min(range(processes), key=load.__getitem__)
        load[owners[task]] += costs[task]
    return owners


def sum_moments(
    layers: Sequence[Layer],
    moments: Mapping[Layer, Moments],
    rows: int,
    trained: Sequence[Layer],
    size: int,
) -> dict[Layer, Moments]:
    """The moments of all processes together, of each layer that one of them saw.

    First the counts are exchanged, in one small message of the same form at every step; then the
    sums of the layers seen anywhere, in the order of the layers, 0 where a process saw none.

    Args:
        layers: All layers of the model, in the same order in all processes.
        moments: What this process saw.
        rows: Number of distributions that its loss used, through these layers or not.
        trained: The layers that have a gradient here.
        size: Number of processes.

    Raises:
        InvalidInputError: In all processes, if a layer has a gradient in some of them only.
    """
    found = [
        [moments[x].input_rows if x in moments else 0, x in moments, x in trained] for x in layers
    ]
    counts = torch.tensor([*found, [rows, 0, 0]], device=layers[0].weight.device)
    sum_over_processes([counts])
    *of_layers, (outputs, _, _) = counts.tolist()
    total: dict[Layer, Moments] = {}
    for layer, (inputs, seen, gradients) in zip(layers, of_layers, strict=True):
        if gradients not in (0, size):
            raise InvalidInputError(
                f"module {layer.name!r} must have a gradient in all {size} processes or in none, "
                f"got {gradients}; train the model in torch.nn.parallel.DistributedDataParallel, "
                "with find_unused_parameters=True if the processes use different modules"
            )
        if seen:
            total[layer] = moments.get(layer) or empty_moments(layer)
            total[layer].input_rows, total[layer].output_rows = inputs, outputs
    if total:
        sum_over_processes([tensor for new in total.values() for tensor in new.sums])
    return total
