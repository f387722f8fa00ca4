"""Optuna studies as the commands name them: a storage and a name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the study's name and storage."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument(
        "--storage", required=True, metavar="URL", help="database URL or SQLite file of the study"
    )


def quiet() -> None:
    """Let Optuna say warnings only: the command's own output is on standard output."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def load(storage: str, name: str, sampler: BaseSampler | None = None) -> Study:
    """The study.

    Raises:
        InvalidInputError: The storage is malformed or has no such study.
        StorageError: The storage does not answer.
    """
    import optuna

    from fisherbo.tuning.storage import answering, open_storage, parse_url, shown, sqlite_file

    url = parse_url(storage)
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise InvalidInputError(f"storage {storage!r} must exist, got no file {file}")
    with answering(shown(url)):
        opened = open_storage(storage, heartbeat=False)
        known = optuna.get_all_study_names(opened)
        if name not in known:
            raise InvalidInputError(
                f"study {name!r} must be in {shown(url)}, got {', '.join(sorted(known)) or 'none'}"
            )
        return optuna.load_study(study_name=name, storage=opened, sampler=sampler)
