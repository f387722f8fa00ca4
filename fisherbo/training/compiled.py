"""Graphs that `torch.compile` makes, which K-FAC goes through before the user's backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch._functorch import config


@contextmanager
def reusable() -> Iterator[None]:
    """What is compiled within the block may be gone through with ``retain_graph``, in such a block.

    Otherwise a compiled backward pass may overwrite the tensors that it saved, and refuses to keep
    its graph (``donated_buffer``). The setting holds in the calling thread alone.
    """
    before = config.donated_buffer
    config.donated_buffer = False  # config.patch would make a class at each use
    try:
        yield
    finally:
        config.donated_buffer = before
