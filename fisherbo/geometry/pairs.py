"""What two distributions must share before they are compared."""

from __future__ import annotations

import torch
from torch.distributions import Binomial, Categorical, Distribution

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.families import FAMILIES, check_range, family_of


def common_family(p: Distribution, q: Distribution) -> type[Distribution]:
    """The family of both distributions, whose shapes and parameters have been checked.

    Raises:
        InvalidInputError: If families, events, numbers of trials or batch shapes do not fit, or a
            parameter is out of range.
    """
    family = family_of(p)
    if family is None or family is not family_of(q):
        raise InvalidInputError(
            "Fisher–Rao distances need two distributions of one family out of "
            f"{', '.join(f.__name__ for f in FAMILIES)}; got {type(p).__name__} and "
            f"{type(q).__name__}"
        )
    check_range(p)
    check_range(q)
    broadcast_batch(p, q)
    if isinstance(p, Binomial) and isinstance(q, Binomial):
        _require_equal_counts(p, q)
    return family


def _require_equal_counts(p: Binomial, q: Binomial) -> None:
    if (p.total_count != q.total_count).any():
        raise InvalidInputError(
            "Fisher–Rao distances of binomials need equal numbers of trials, got total_count "
            f"{p.total_count} and {q.total_count}"
        )


def broadcast_batch(p: Distribution, q: Distribution) -> torch.Size:
    """The common batch shape of two distributions over the same kind of event.

    Raises:
        InvalidInputError: If there is none, or events (or numbers of categories) differ.
    """
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        left, right = p.probs.shape[-1:], q.probs.shape[-1:]
    else:
        left, right = p.event_shape, q.event_shape
    if left != right:
        raise InvalidInputError(
            f"two distributions must have events of one size, got {tuple(left)} and {tuple(right)}"
        )
    try:
        return torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    except RuntimeError as error:
        raise InvalidInputError(
            f"batch shapes must broadcast, got {tuple(p.batch_shape)} and {tuple(q.batch_shape)}; "
            "add dimensions of size 1 for all pairs"
        ) from error
