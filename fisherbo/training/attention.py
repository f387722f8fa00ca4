"""Multi-head attention computed so that its projections can be seen.

`torch.nn.MultiheadAttention` hands its weights to one function and calls no module. Computed anew
with the same masks and the same random numbers, its projections are operations of their own, whose
inputs and output gradients a factor can be made of. The attention between them is torch's own
function, which gets the projected values and identity matrices for its weights.

Symbols: E width; N rows; L queries, S keys and values; T the larger of the two.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIGNATURE = inspect.signature(nn.MultiheadAttention.forward)


@dataclass(frozen=True)
class Attended:
    """A call of an attention, computed anew.

    Attributes:
        outputs: What the module returns, equal within rounding.
        sources: Query, key and value, as they were given.
        inputs: Rows of the three projections, shape ``(3, N, T, E + 1)``; the last coordinate is 1,
            and 0 at positions that only fill up.
        projected: Their outputs, shape ``(3, N, T, E)``.
    """

    outputs: tuple[Tensor, Tensor | None]
    sources: tuple[Tensor, ...]
    inputs: Tensor
    projected: Tensor


def attended(
    module: nn.MultiheadAttention,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    random_state: Tensor | None,
) -> Attended:
    """Compute a call of an attention anew; ``out_proj`` is called as a module.

    Args:
        module: Without ``kdim``, ``vdim``, ``add_bias_kv`` and ``add_zero_attn``.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        random_state: Of `random_state` before the call; ``None`` if it drew nothing.
    """
    call = _SIGNATURE.bind(module, *args, **kwargs)
    call.apply_defaults()
    options = {key: value for key, value in call.arguments.items() if key != "self"}
    sources = tuple(options.pop(name) for name in ("query", "key", "value"))
    batched = sources[0].ndim == 3
    flipped = batched and not module.batch_first
    rows = [s.transpose(0, 1) if flipped else s if batched else s[None] for s in sources]
    inputs, projected = _projections(module, rows)
    parts = [p[:, : r.shape[1]].transpose(0, 1) for p, r in zip(projected, rows, strict=True)]
    if not batched:
        parts = [part[:, 0] for part in parts]
    if random_state is not None:
        _set_random_state(module, random_state)
    values, weights = _attention(module, parts, options)
    outputs = module.out_proj(values.transpose(0, 1) if batched else values[None])
    if batched:  # laid out as torch does: dropout draws its mask in the order of the memory
        outputs = outputs.transpose(0, 1).contiguous()
        outputs = outputs.transpose(0, 1) if module.batch_first else outputs
    else:
        outputs = outputs[0]
    return Attended((outputs, weights), sources, inputs, projected)


def random_state(module: nn.MultiheadAttention) -> Tensor | None:
    """State of the generator that the module's dropout will draw from, if it will."""
    if not (module.training and module.dropout > 0):
        return None
    device = module.out_proj.weight.device
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(module: nn.MultiheadAttention, state: Tensor) -> None:
    device = module.out_proj.weight.device
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _projections(module: nn.MultiheadAttention, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of the three projections; a shorter sequence is filled up with zeros."""
    length = max(part.shape[1] for part in rows)
    filled = [functional.pad(part, (0, 0, 0, length - part.shape[1])) for part in rows]
    values = torch.stack(filled)
    n, width = values.shape[1], values.shape[-1]
    weights = module.in_proj_weight.unflatten(0, (3, width)).mT
    flat = values.flatten(1, 2)
    bias = cast(Tensor | None, module.in_proj_bias)
    if bias is None:
        projected = torch.bmm(flat, weights)
    else:
        projected = torch.baddbmm(bias.view(3, 1, width), flat, weights)
    present = [functional.pad(p.new_ones(n, p.shape[1]), (0, length - p.shape[1])) for p in rows]
    inputs = torch.cat([values.detach(), torch.stack(present)[..., None]], -1)
    return inputs, projected.unflatten(1, (n, length))


def _attention(
    module: nn.MultiheadAttention, parts: list[Tensor], options: Mapping[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """What attention makes of projected queries, keys and values, before ``out_proj``."""
    query, key, value = parts
    identity = torch.eye(module.embed_dim, dtype=query.dtype, device=query.device)
    return functional.multi_head_attention_forward(
        query,
        key,
        value,
        module.embed_dim,
        module.num_heads,
        None,  # in_proj_weight, in_proj_bias
        None,
        None,  # bias_k, bias_v
        None,
        False,  # add_zero_attn
        module.dropout,
        identity,  # out_proj_weight, out_proj_bias
        cast(Tensor, None),  # allowed, but not in torch's stubs
        training=module.training,
        key_padding_mask=options["key_padding_mask"],
        need_weights=options["need_weights"],
        attn_mask=options["attn_mask"],
        use_separate_proj_weight=True,
        q_proj_weight=identity,
        k_proj_weight=identity,
        v_proj_weight=identity,
        average_attn_weights=options["average_attn_weights"],
        is_causal=options["is_causal"],
    )
