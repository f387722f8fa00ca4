"""What a step and a checkpoint must satisfy before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training.adaptation import number
from fisherbo.training.moments import Moments


def remedy(group: Mapping[str, Any]) -> str:
    """What to change in the settings of a parameter group after a divergence, with their values."""
    lower = [f"{name} (now {group[name]:.3g})" for name in ("lr", "momentum") if group.get(name)]
    parts = ["lower " + " or ".join(lower)] if lower else ["look for NaN in the data"]
    if group.get("damping"):
        parts.append(f"raise damping (now {group['damping']:.3g})")
    if "kl_clip" in group:
        clip = group["kl_clip"]
        now = clip if clip is None or isinstance(clip, str) else f"{clip:.3g}"
        parts.append(f"{'set' if clip is None else 'lower'} kl_clip (now {now})")
    return ", ".join(parts)


def check_finite(
    loss: float | Tensor | None,
    gradients: Sequence[Tensor],
    moments: Iterable[Moments],
    group: Mapping[str, Any],
) -> None:
    """Refuse a step from what is not finite; the message tells what to change in the ``group``.

    Raises:
        DivergedError: If the loss, a gradient or a sum of the factors is not.
    """
    if loss is not None and not math.isfinite(number(loss)):
        raise DivergedError(f"the loss is {number(loss)}; {remedy(group)}")
    sums = [tensor for new in moments for tensor in new.sums]
    for name, tensors in (("gradient", gradients), ("Kronecker factor", sums)):
        if tensors and not _finite(tensors):
            raise DivergedError(
                f"a {name} is not finite; no parameter was changed; {remedy(group)}"
            )


def _finite(tensors: Sequence[Tensor]) -> bool:
    """Whether all entries are, by their largest: squares would overflow long before."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in filter(Tensor.numel, tensors):
        by_device.setdefault(tensor.device, []).append(tensor)
    return all(
        math.isfinite(torch.stack(torch._foreach_norm(one, math.inf)).max().item())
        for one in by_device.values()
    )


def check_form(name: str, state: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse a layer's saved state that has other keys or shapes than its state.

    Raises:
        InvalidInputError: If it has.
    """
    form = {key: getattr(value, "shape", None) for key, value in state.items()}
    other = {key: getattr(value, "shape", None) for key, value in saved.items()}
    different = sorted(key for key in form | other if form.get(key, 0) != other.get(key, 0))
    if different:
        raise InvalidInputError(
            f"the state of module {name!r} must be of a KFAC with the same options and model, got "
            f"another {', '.join(different)}; build KFAC as it was when saved"
        )


def unscale(
    found_inf: Tensor | None, scale: Tensor | None, parameters: Iterable[Tensor], needed: bool
) -> float | None:
    """The factor that GradScaler put into the gradients, taken out of them; ``None``: overflow.

    Args:
        found_inf: What GradScaler found, ``None`` without one.
        scale: The factor; ``None`` if it has been taken out already.
        parameters: Those whose gradients are scaled.
        needed: Whether the factor is needed for more than the gradients.

    Raises:
        InvalidInputError: If the factor is needed and not known.
    """
    if found_inf is None:
        return 1.0
    if found_inf.item() > 0:
        return None
    if scale is None:
        if needed:
            raise InvalidInputError(
                "fisher='empirical' needs the scale of the gradients, got gradients that "
                "GradScaler.unscale_ was called for; leave the call out and use kl_clip"
            )
        return 1.0
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.div_(scale.to(parameter.grad.device))
    return float(scale.item())
