"""Storages of studies: opened with a heartbeat, patient with locks, impatient with silence."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from fisherbo.errors import FisherboError, InvalidInputError, StorageError

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 60  # after which the trial of a killed worker is given up
CONNECT_SECONDS = 5
SQLITE_LOCK_SECONDS = 60
ATTEMPTS = 5

JOURNAL = "journal:"
GRPC = "grpc://"
FORMS = (
    "sqlite:///FILE, journal:FILE, postgresql://USER:PASSWORD@HOST/DATABASE, mysql://... or "
    "grpc://HOST:PORT"
)

_PASSWORD = re.compile(r"(?<=[^:/]):[^/]*@")  # of a text that is no URL
_DRIVERS = {  # of databases: SQLAlchemy's names of drivers, their modules, and what to install
    "postgresql": ({"psycopg": "psycopg", "psycopg2": "psycopg2"}, "psycopg2-binary"),
    "mysql": ({"pymysql": "pymysql", "mysqldb": "MySQLdb"}, "pymysql"),
}


def open_storage(storage: str | BaseStorage | None, *, heartbeat: bool = True) -> BaseStorage:
    """Storage of a URL, of the path of an SQLite file, or in memory for None.

    Args:
        storage: What to open: a database URL; ``journal:FILE``, a file that Optuna's
            `JournalStorage` writes; ``grpc://HOST:PORT``, where ``optuna.storages``'
            ``run_grpc_proxy_server`` listens; or the path of an SQLite file.
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
    name, file = storage_name(storage), storage_file(storage)
    try:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        if storage.startswith(JOURNAL):
            return JournalStorage(JournalFileBackend(str(file)))
        if storage.startswith(GRPC):
            return _proxy(storage)
        url = parse_url(storage)
        in_memory = file is None and url.get_backend_name() == "sqlite"  # each thread has its own
        return _open(url, heartbeat and not in_memory)
    except FisherboError:
        raise
    except _errors(ImportError, RuntimeError, OSError) as error:
        raise _failed(name, error) from error


def storage_file(storage: str) -> Path | None:
    """File of a storage, an SQLite database or a journal; None for servers and memory.

    Raises:
        InvalidInputError: As `parse_url`.
    """
    if storage.startswith(JOURNAL):
        path = storage.removeprefix(JOURNAL)
        if not path:
            raise InvalidInputError(
                "storage 'journal:' must name a file, such as journal:trials.log"
            )
        return Path(path)
    return None if storage.startswith(GRPC) else sqlite_file(parse_url(storage))


def storage_name(storage: str) -> str:
    """What to call a storage in messages: without password and driver.

    Raises:
        InvalidInputError: As `parse_url`.
    """
    if storage.startswith((JOURNAL, GRPC)):
        return storage
    return shown(parse_url(storage))


def parse_url(storage: str) -> URL:
    """URL of a storage; a word without '://' is the path of an SQLite file.

    Raises:
        InvalidInputError: the text is not a URL of a known database.
    """
    text = storage if "://" in storage else f"sqlite:///{storage}"
    if "://" not in storage and Path(storage).suffix in (".log", ".journal"):
        raise InvalidInputError(
            f"storage {storage!r} has the name of a journal; give {JOURNAL}{storage}, or "
            f"sqlite:///{storage} if it is an SQLite file"
        )
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InvalidInputError(
            f"storage {_PASSWORD.sub(':***@', storage)!r} is not a database URL; give {FORMS}"
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
    except _errors() as error:
        raise _failed(name, error) from error


def _errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What storages raise that do not answer, and others."""
    grpc = sys.modules.get("grpc")
    proxies = [] if grpc is None else [grpc.RpcError]
    return (SQLAlchemyError, StorageInternalError, *proxies, *others)


def _proxy(storage: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    parts = urlsplit(storage)
    _, _, port = parts.netloc.rpartition(":")
    if not parts.hostname or not port.isdecimal() or parts.path.strip("/"):
        raise InvalidInputError(f"storage {storage!r} must be {GRPC}HOST:PORT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=parts.hostname, port=int(port))
    proxy.wait_server_ready(timeout=CONNECT_SECONDS)
    return proxy


def _failed(name: str, error: BaseException) -> StorageError:
    return StorageError(
        f"storage {name} cannot be used: {_reason(error)}; "
        "check the URL and that the database runs, then run again"
    )


def _reason(error: BaseException) -> str:
    """First line of the innermost database error."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    lines = [*str(cause).strip().splitlines(), *str(error).strip().splitlines()]
    return lines[0].strip() if lines else type(cause).__name__


def _with_driver(url: URL) -> URL:
    """URL with a driver that is installed, where it names none."""
    database = "postgresql" if url.drivername == "postgres" else url.drivername
    if database not in _DRIVERS:
        return url
    drivers, package = _DRIVERS[database]
    for driver, module in drivers.items():
        if find_spec(module) is not None:
            return url.set(drivername=f"{database}+{driver}")
    raise StorageError(
        f"storage {url.render_as_string(hide_password=True)} needs a driver of {database}, none is "
        f"installed; install one with: pip install {package}"
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
