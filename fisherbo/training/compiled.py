"""Graphs that `torch.compile` makes, which K-FAC goes through before the user's backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch._functorch.config


def reusable() -> AbstractContextManager[object]:
    """What is compiled within the block may be gone through with ``retain_graph``, in such a block.

    Otherwise a compiled backward pass may overwrite the tensors that it saved, and refuses to keep
    its graph (``donated_buffer``). The setting holds in the calling thread alone.
    """
    block: AbstractContextManager[object] = torch._functorch.config.patch(donated_buffer=False)
    return block
