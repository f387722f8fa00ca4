"""Optuna studies as the commands name them: a storage and a name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Literal

from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study

Direction = Literal["minimize", "maximize"]


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the study's name and storage."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument(
        "--storage", required=True, metavar="URL",
        help="SQLite file of the study, journal:FILE, a database URL, or grpc://HOST:PORT",
    )  # fmt: skip


def quiet() -> None:
    """Let Optuna say warnings only: the command's own output is on standard output."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def add_creation(parser: argparse.ArgumentParser) -> None:
    """Add ``--create`` and the directions of a study that is made."""
    parser.add_argument(
        "--create", action="store_true", help="create the study, and the file, if there is none"
    )
    parser.add_argument(
        "--direction", "--directions", dest="directions", nargs="+", default=None,
        choices=["minimize", "maximize"], metavar="minimize|maximize",
        help="of each objective, with --create (default: minimize, one objective)",
    )  # fmt: skip


def directions_of(arguments: argparse.Namespace) -> list[Direction] | None:
    """Directions of a study to create, none if not told; None where it must exist.

    Raises:
        InvalidInputError: Directions are given without ``--create``.
    """
    if arguments.directions and not arguments.create:
        raise InvalidInputError("--direction is of a study that is created; add --create")
    return (arguments.directions or []) if arguments.create else None


def load(
    storage: str,
    name: str,
    sampler: BaseSampler | None = None,
    create: list[Direction] | None = None,
) -> Study:
    """The study.

    Args:
        storage: As in `fisherbo.tuning.storage.open_storage`.
        name: Its name.
        sampler: Who is asked.
        create: Directions of a study that is made if there is none; empty is one objective that is
            minimized, or those of the study that is there.

    Raises:
        InvalidInputError: The storage is malformed, or has no such study, or one with other
            directions.
        StorageError: The storage does not answer.
    """
    import optuna

    from fisherbo.tuning.storage import answering, open_storage, storage_file, storage_name

    shown = storage_name(storage)
    file = storage_file(storage)
    if file is not None and not file.exists() and create is None:
        raise InvalidInputError(f"storage {storage!r} must exist, got no file {file}")
    with answering(shown):
        opened = open_storage(storage, heartbeat=False)
        if create is not None:
            study = optuna.create_study(
                storage=opened, study_name=name, sampler=sampler, directions=create or ["minimize"],
                load_if_exists=True,
            )  # fmt: skip
            require_directions(study, create)
            return study
        known = optuna.get_all_study_names(opened)
        if name not in known:
            raise InvalidInputError(
                f"study {name!r} must be in {shown}, got {', '.join(sorted(known)) or 'none'}"
            )
        return optuna.load_study(study_name=name, storage=opened, sampler=sampler)


def exists(storage: str, name: str) -> bool:
    """Whether there is the study; no file is made.

    Raises:
        InvalidInputError: The storage is malformed.
        StorageError: The storage does not answer.
    """
    import optuna

    from fisherbo.tuning.storage import answering, open_storage, storage_file, storage_name

    file = storage_file(storage)
    if file is not None and not file.exists():
        return False
    with answering(storage_name(storage)):
        return name in optuna.get_all_study_names(open_storage(storage, heartbeat=False))


def require_directions(study: Study, asked: list[Direction]) -> None:
    """Pass if the study has the directions, or none are asked for."""
    found = [direction.name.lower() for direction in study.directions]
    if asked and found != asked:
        raise InvalidInputError(
            f"study {study.study_name!r} is there already, with directions {' '.join(found)}, got "
            f"--direction {' '.join(asked)}; leave out --create, or use another name"
        )
