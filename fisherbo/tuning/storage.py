"""Storages of studies: opened with a heartbeat, patient with locks, impatient with silence."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from fisherbo.errors import InvalidInputError, StorageError

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 60  # after which the trial of a killed worker is given up
CONNECT_SECONDS = 5
SQLITE_LOCK_SECONDS = 60
ATTEMPTS = 5


def open_storage(storage: str | BaseStorage | None, *, heartbeat: bool = True) -> BaseStorage:
    """Storage of a URL, of the path of an SQLite file, or in memory for None.

    Args:
        storage: What to open.
        heartbeat: Whether trials are given up when their worker falls silent; `Study.optimize`
            alone keeps heartbeats, so not where trials are asked for.

    Raises:
        InvalidInputError: the URL is malformed or of a database that SQLAlchemy does not know.
        StorageError: the database does not answer within seconds, or cannot be used.
    """
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    url = parse_url(storage)
    file = sqlite_file(url)
    in_memory = file is None and url.get_backend_name() == "sqlite"  # each thread has its own
    try:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        return _open(url, heartbeat and not in_memory)
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, OSError) as error:
        raise _failed(shown(url), error) from error


def parse_url(storage: str) -> URL:
    """URL of a storage; a word without '://' is the path of an SQLite file.

    Raises:
        InvalidInputError: the text is not a URL of a known database.
    """
    text = storage if "://" in storage else f"sqlite:///{storage}"
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InvalidInputError(
            f"storage {storage!r} is not a database URL; "
            "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error
    except ImportError:
        pass  # SQLAlchemy's first choice of driver is missing; `_with_driver` looks for another
    return _with_driver(url)


def sqlite_file(url: URL) -> Path | None:
    """File of an SQLite URL, None for other databases and for one in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def shown(url: URL) -> str:
    """The URL without its password and driver."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


@contextmanager
def answering(name: str) -> Iterator[None]:
    """Run a block; a failure of the database leaves it as one line of `StorageError`."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> StorageError:
    return StorageError(
        f"storage {name} cannot be used: {_reason(error)}; "
        "check the URL and that the database runs, then run again"
    )


def _reason(error: BaseException) -> str:
    """First line of the innermost database error."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    lines = str(cause).strip().splitlines()
    return lines[0].strip() if lines else type(cause).__name__


def _with_driver(url: URL) -> URL:
    """URL with a PostgreSQL driver that is installed, where it names none."""
    if url.drivername not in ("postgresql", "postgres"):
        return url
    for driver in ("psycopg", "psycopg2"):
        if find_spec(driver) is not None:
            return url.set(drivername=f"postgresql+{driver}")
    raise StorageError(
        f"storage {url.render_as_string(hide_password=True)} needs a PostgreSQL driver, none is "
        "installed; install one with: pip install psycopg2-binary"
    )


def _open(url: URL, heartbeat: bool) -> BaseStorage:
    """RDB storage; tried again while another process makes the tables of the same new database."""
    for attempt in range(ATTEMPTS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return _rdb(url, heartbeat)
        except SQLAlchemyError as error:
            if attempt == ATTEMPTS - 1 or not _is_race(error):
                raise
            time.sleep(0.2 * 2**attempt)
    raise AssertionError("unreachable")


def _rdb(url: URL, heartbeat: bool) -> BaseStorage:
    rdb = RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs=_engine_options(url),
        heartbeat_interval=HEARTBEAT_SECONDS if heartbeat else None,
        grace_period=GRACE_SECONDS if heartbeat else None,
    )
    return optuna.storages.get_storage(rdb)


def _is_race(error: SQLAlchemyError) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("already exists", "unique", "duplicate", "locked"))


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": SQLITE_LOCK_SECONDS}}
    return {"connect_args": {"connect_timeout": CONNECT_SECONDS}, "pool_pre_ping": True}
