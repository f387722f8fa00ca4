"""Where the autograd graph of a pass uses a weight besides the calls that were seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

Regions: TypeAlias = Mapping[Node, frozenset[Node]]
"""The node of a call's output to those of its inputs."""


def node_of(tensor: Tensor) -> Node | None:
    """The node that a tensor's gradient goes to; ``None`` if it needs none."""
    return get_gradient_edge(tensor).node if tensor.requires_grad else None


def used_outside(outputs: Tensor, calls: Regions, weights: Iterable[Tensor]) -> list[Tensor]:
    """Those of ``weights`` that a path from ``outputs`` reaches without leading through a call.

    Args:
        outputs: With their graph.
        calls: Output node and input nodes of each call that was seen.
        weights: Leaves of the graph.
    """
    found: set[Node] = set()
    stack = [node_of(outputs)]
    while stack:
        node = stack.pop()
        if node is None or node in found:
            continue
        found.add(node)
        stack += calls[node] if node in calls else _next(node)
    return [weight for weight in weights if node_of(weight) in found]


def nodes_of(tensors: Iterable[Tensor]) -> frozenset[Node]:
    """The nodes that their gradients go to."""
    return frozenset(node for node in map(node_of, tensors) if node is not None)


def _next(node: Node) -> list[Node | None]:
    return [following for following, _ in node.next_functions]
