"""`fisherbo tune`: tune an optimizer on a training problem, with a table and a report."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from fisherbo.cli.arguments import add_format, names, positive_float, positive_int, seed, widths
from fisherbo.cli.outcome import notes, tell
from fisherbo.errors import FisherboError, InvalidInputError

if TYPE_CHECKING:
    from fisherbo.tuning import TuningResult
    from fisherbo.tuning.tasks import Task

DEFAULT_STORAGE = "sqlite:///runs/tune.db"
HELP = "from a table to a tuned, tested and saved model"
DESCRIPTION = (
    "Tune the training of a network on a table, train it again with the best settings, test it on "
    "held-out rows beside baselines, and save it. Without a target column an autoencoder's "
    "training is tuned. Run it again to resume."
)
EXAMPLES = """examples:
  fisherbo tune
      tune K-FAC on a deep autoencoder of handwritten digits: 30 trials, stored in runs/tune.db
  fisherbo tune --compare adam,sgd
      the same, then Adam and SGD with as many trials each, in one table and one report
  fisherbo tune --data wine --trials 20
      a classifier of the wine data; run again with --trials 40 it goes on from 20
  fisherbo tune --data houses.csv --target price
      a model of a CSV file's prices, saved beside the study; .parquet and .npz files work alike
  fisherbo predict runs/houses-regression.pt --data new.csv
      what the model says of new rows
  fisherbo tune --data visits.csv --target outcome --group patient --class-weight balanced
      no patient is both trained on and tested on; rare outcomes weigh as much as common ones
  fisherbo tune --storage postgresql://user:password@host/database
      run it in several processes or on several machines: they share the study
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    _add_problem(parser)
    _add_search(parser)
    _add_output(parser)


def _add_problem(tune: argparse.ArgumentParser) -> None:
    group = tune.add_argument_group("problem")
    group.add_argument(
        "--data", default="digits", metavar="NAME|FILE",
        help="digits, breast_cancer, diabetes, wine, iris, or a .csv, .parquet or .npz file "
        "(default: digits)",
    )  # fmt: skip
    group.add_argument("--target", metavar="COLUMN", help="target column of the file")
    group.add_argument(
        "--drop", type=names, default=[], metavar="COLUMN,...", help="columns to leave out"
    )
    group.add_argument(
        "--keep", type=names, default=[], metavar="COLUMN,...",
        help="columns to use though they look like ids, text or constants",
    )  # fmt: skip
    group.add_argument(
        "--group", metavar="COLUMN",
        help="rows of one value of it stay together: all trained on, or all tested on",
    )  # fmt: skip
    group.add_argument(
        "--time", metavar="COLUMN", help="early rows are trained on, the latest are tested on"
    )
    group.add_argument(
        "--class-weight", choices=["balanced"], help="rare classes weigh as much as common ones"
    )
    group.add_argument(
        "--metric", metavar="NAME",
        help="what settings are chosen by: accuracy, balanced_accuracy or log_loss; rmse, mae or "
        "r2 (default: log_loss, rmse)",
    )  # fmt: skip
    group.add_argument(
        "--task", metavar="TASK",
        help="autoencoder, classification or regression (default: what suits the target)",
    )  # fmt: skip
    group.add_argument(
        "--hidden", type=widths, metavar="N,N,...",
        help="widths of the hidden layers (default: 128,64,32,8 for the autoencoder, else 64,32)",
    )  # fmt: skip
    group.add_argument(
        "--target-loss", type=positive_float, metavar="X",
        help="a run ends when its metric is at most X (default: 3.0 on digits' autoencoder)",
    )  # fmt: skip
    group.add_argument(
        "--batch-size", type=positive_int, metavar="N",
        help="rows a batch (default: all rows up to 4096, else 1024; 512 for the autoencoder)",
    )  # fmt: skip


def _add_search(tune: argparse.ArgumentParser) -> None:
    group = tune.add_argument_group("search")
    group.add_argument(
        "--optimizer", default="kfac", metavar="NAME", help="kfac, adam or sgd (default: kfac)"
    )
    group.add_argument(
        "--compare", type=names, default=[], metavar="NAME,...",
        help="optimizers to tune as well, with as many trials each, for instance adam,sgd",
    )  # fmt: skip
    group.add_argument(
        "--trials", type=positive_int, default=30, metavar="N",
        help="total number of trials of a study (default: 30)",
    )  # fmt: skip
    group.add_argument(
        "--sampler", default="fisher", metavar="NAME",
        help="fisher, gp, tpe or random (default: fisher)",
    )  # fmt: skip
    group.add_argument(
        "--pruner", default="percentile", metavar="NAME",
        help="what ends runs early: percentile (the worst quarter), fisher (those that a model of "
        "the learning curves gives up) or none (default: percentile)",
    )  # fmt: skip
    group.add_argument(
        "--max-steps", type=positive_int, metavar="N",
        help="steps of a trial (default: of a model of a target 100 for kfac, 1000 for adam and "
        "sgd, at least 10 epochs; of the autoencoder 300 and 6000)",
    )  # fmt: skip
    group.add_argument(
        "--max-seconds", type=positive_float, default=60.0, metavar="S",
        help="CPU seconds of a trial (default: 60)",
    )  # fmt: skip
    group.add_argument(
        "--timeout", type=positive_float, metavar="S",
        help="seconds after which no trial is begun (default: no limit)",
    )  # fmt: skip
    group.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N",
        help="processes that share the trials (default: 1)",
    )  # fmt: skip
    group.add_argument("--seed", type=seed, default=0, metavar="N", help="seed (default: 0)")
    group.add_argument(
        "--threads", type=positive_int, default=1, metavar="N",
        help="threads of torch (default: 1)",
    )  # fmt: skip


def _add_output(tune: argparse.ArgumentParser) -> None:
    group = tune.add_argument_group("storage and output")
    group.add_argument(
        "--storage", default=DEFAULT_STORAGE, metavar="URL",
        help=f"database URL or SQLite file (default: {DEFAULT_STORAGE})",
    )  # fmt: skip
    group.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER",
        help="keep checkpoints of running trials there: after an interruption they go on where "
        "they were, and trials that the fisher pruner gave up are resumed if they promise more "
        "than new ones (default: none)",
    )  # fmt: skip
    group.add_argument(
        "--study-name", metavar="NAME",
        help="name of the study; with --compare they are named NAME-OPTIMIZER (default: "
        "DATA-TASK-OPTIMIZER)",
    )  # fmt: skip
    group.add_argument(
        "--report", type=Path, metavar="FILE",
        help="HTML report (default: NAME.html beside the storage's file)",
    )  # fmt: skip
    group.add_argument(
        "--save", type=Path, metavar="FILE",
        help="the model, with all that `fisherbo predict` needs (default: NAME.pt beside the "
        "storage's file)",
    )  # fmt: skip
    group.add_argument(
        "--quiet", action="store_true",
        help="no table, and no progress bar, which is drawn on terminals only",
    )  # fmt: skip
    add_format(tune)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo tune`: a study for each optimizer, with further processes, then the reports."""
    optimizers = list(dict.fromkeys([arguments.optimizer, *arguments.compare]))
    watched = sys.stderr.isatty() and not arguments.quiet
    if watched:  # before what takes seconds
        print(f"fisherbo: tuning {', '.join(optimizers)} on {arguments.data} ...", file=sys.stderr)
    arguments.deadline = None if arguments.timeout is None else monotonic() + arguments.timeout
    from fisherbo.files import require_writable
    from fisherbo.tuning.workers import beside

    task = _prepare(arguments, optimizers)
    studies = _study_names(arguments, task, optimizers)
    page = _beside_storage(arguments, task, arguments.report, ".html")
    model = _beside_storage(arguments, task, arguments.save, ".pt")
    require_writable(page, "--report")
    if task.learned is not None:
        require_writable(model, "--save")
    elif arguments.save is not None:
        raise InvalidInputError(
            "--save is for models of a target, and an autoencoder has none; give --target or --task"
        )
    if watched and task.learned is not None:
        print("\n".join(notes(task)), file=sys.stderr)
    if arguments.study_name is not None:
        _note_other_names(arguments, studies)
    arguments.watched = watched
    with beside(arguments.jobs - 1, _assist, arguments, optimizers):
        results = [_tune_one(arguments, task, *names) for names in studies.items()]
    return tell(arguments, task, results, page, model)


def _assist(arguments: argparse.Namespace, optimizers: list[str]) -> None:
    """Work on the studies of another process, which tells what there is to tell."""
    arguments.watched = False
    with contextlib.suppress(FisherboError, KeyboardInterrupt):
        task = _prepare(arguments, optimizers)
        for names in _study_names(arguments, task, optimizers).items():
            _tune_one(arguments, task, *names)


def _prepare(arguments: argparse.Namespace, optimizers: list[str]) -> Task:
    """The task of the command's data, once the process is set up and the optimizers are known."""
    import optuna
    import torch

    from fisherbo.tuning.data import load
    from fisherbo.tuning.search_spaces import as_optimizer
    from fisherbo.tuning.tables.supervised import Choices
    from fisherbo.tuning.tasks import make_task

    torch.set_num_threads(arguments.threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in optimizers:
        as_optimizer(name)
    return make_task(
        load(arguments.data, arguments.target),
        arguments.task,
        hidden=arguments.hidden,
        target_loss=arguments.target_loss,
        seed=arguments.seed,
        choices=Choices(
            drop=arguments.drop,
            keep=arguments.keep,
            group=arguments.group,
            time=arguments.time,
            balanced=arguments.class_weight == "balanced",
            metric=arguments.metric,
        ),
    )


def _study_names(
    arguments: argparse.Namespace, task: Task, optimizers: list[str]
) -> dict[str, str]:
    """The study of each optimizer: the user's name as it is if there is one optimizer."""
    if arguments.study_name is not None and len(optimizers) == 1:
        return {optimizers[0]: arguments.study_name}
    return {name: f"{arguments.study_name or task.name}-{name}" for name in optimizers}


def _note_other_names(arguments: argparse.Namespace, studies: dict[str, str]) -> None:
    """Say where a study begins though the other of NAME and NAME-OPTIMIZER is in the storage."""
    import optuna

    from fisherbo.tuning.storage import answering, open_storage, storage_file, storage_name

    file = storage_file(arguments.storage)
    if file is not None and not file.exists():
        return
    with answering(storage_name(arguments.storage)):
        known = optuna.get_all_study_names(open_storage(arguments.storage, heartbeat=False))
    name = arguments.study_name
    for optimizer, study in studies.items():
        other = f"{name}-{optimizer}" if study == name else name
        if study not in known and other in known:
            print(
                f"fisherbo: note: study {study!r} is new; {other!r} is another study, which "
                f"--study-name {other} without --compare goes on with",
                file=sys.stderr,
            )


def _tune_one(
    arguments: argparse.Namespace, task: Task, optimizer: str, study_name: str
) -> TuningResult:
    from fisherbo.tuning import tune_training

    tunable = task.optimizer(optimizer)
    left = None
    if arguments.deadline is not None:
        left = max(1e-3, arguments.deadline - monotonic())
    return tune_training(
        task.build_model,
        task.train,
        loss=task.loss.function,
        likelihood=task.loss.likelihood,
        optimizer=tunable,
        n_trials=arguments.trials,
        target=task.target,
        validation=task.validation,
        offset=task.offset,
        batch_size=arguments.batch_size or task.batch_size,
        max_steps=arguments.max_steps or max(tunable.max_steps, task.min_steps),
        max_seconds=arguments.max_seconds,
        storage=arguments.storage,
        study_name=study_name,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        checkpoints=arguments.checkpoints,
        seed=arguments.seed,
        metric=task.metric,
        config=task.config,
        progress=arguments.watched,
        measure=task.measure,
        schedule=task.schedule,
        timeout=left,
        folds=task.folds,
    )


def _beside_storage(
    arguments: argparse.Namespace, task: Task, given: Path | None, suffix: str
) -> Path:
    """The path given; else beside the storage's file, or here for a database server."""
    from fisherbo.tuning.storage import storage_file

    if given is not None:
        return given
    name = (arguments.study_name or task.name).replace("/", "-")
    file = storage_file(arguments.storage)
    folder = Path() if file is None else file.parent
    return folder / f"{name}{suffix}"
