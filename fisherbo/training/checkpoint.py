"""Checkpoints that are whole or not there, and the generators that a run draws from."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.files import replacing

VERSION = 1


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside the old one and put it in its place at once.

    A process that is killed while it writes leaves the old file as it was.

    Args:
        state: What `torch.load` reads with ``weights_only=True``.
        path: The file; its folder is made.

    Raises:
        StorageError: If the file cannot be written.
    """
    with replacing(path) as file:
        torch.save({**state, "version": VERSION}, file)


def load_checkpoint(path: Path, maker: str = "fisherbo.training.fit") -> dict[str, Any]:
    """The state that `save_atomically` wrote, on the CPU.

    Args:
        path: The file.
        maker: Whose file it should be, for the message.

    Raises:
        InvalidInputError: If the file is no checkpoint of this version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInputError(
            f"{path} is not a checkpoint of {maker}: {reason}; remove it or name another file"
        ) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise InvalidInputError(
            f"{path} is not a checkpoint of version {VERSION} of {maker}; "
            "remove it or name another file"
        )
    return state


def generator_states(own: torch.Generator | None) -> dict[str, Any]:
    """States of torch's, Python's and NumPy's global generators, and of one more."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  # the state that transforms draw from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "own": None if own is None else own.get_state(),
    }


def continue_generator(generator: torch.Generator, state: Tensor) -> None:
    """Go on from the state of a generator; of one on another kind of device, from a seed of it."""
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        digest = hashlib.sha256(bytes(state.tolist())).digest()
        generator.manual_seed(int.from_bytes(digest[:7]))


def set_generator_states(states: dict[str, Any], own: torch.Generator | None) -> None:
    """Go on from `generator_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    assert isinstance(keys, Tensor)
    numbers = keys.numpy().astype(np.uint32)
    np.random.set_state((name, numbers, *rest))  # noqa: NPY002  # as above
    if own is not None and states["own"] is not None:
        own.set_state(states["own"])
