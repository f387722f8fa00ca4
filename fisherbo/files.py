"""Files that are written whole or not at all, and whether a place can be written to."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fisherbo.errors import InvalidInputError, StorageError


@contextlib.contextmanager
def replacing(path: str | Path, advice: str = "choose another place") -> Iterator[IO[bytes]]:
    """A file to write in a block; it takes the place of ``path`` when the block ends.

    Where the block raises, or the process is killed, the old file stays as it was. The new file has
    the permissions that the umask gives, as every new file has. What is not a regular file, such as
    ``/dev/null``, is written to directly.

    Args:
        path: The file; its folder is made. Of a symbolic link, the file that it points to.
        advice: What to do if it cannot be written.

    Raises:
        StorageError: The file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        _require_permission(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.partial")
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {_reason(error)}; {advice}") from error


def require_writable(path: Path, name: str) -> None:
    """Pass if a file can be written there; nothing is changed.

    Args:
        path: The file; its folder need not exist.
        name: What the path is, for the message, such as ``"--save"``.

    Raises:
        InvalidInputError: It cannot.
    """
    try:
        _try(path)
    except OSError as error:
        raise InvalidInputError(
            f"{name} {path} cannot be written: {_reason(error)}; choose another place"
        ) from error


def _try(path: Path) -> None:
    """Raise the `OSError` that a write would raise."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError("it is a folder")
    _require_permission(target)
    if target.exists() and not target.is_file():
        return  # a device, which is written to directly
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def _require_permission(target: Path) -> None:
    """Raise where a file is there that must not be written, though it could be replaced."""
    with contextlib.suppress(FileNotFoundError):
        target.stat()  # also raises where the name is too long
        if not os.access(target, os.W_OK):
            raise PermissionError("it is read-only")


def _reason(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split()) or type(error).__name__
