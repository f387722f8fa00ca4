"""`fisherbo tell`: the values of a trial that was evaluated outside Python."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from fisherbo.cli.arguments import add_format, seed
from fisherbo.cli.output import print_json
from fisherbo.cli.studies import add_study, load, quiet
from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

HELP = "tell the value of a trial, or that it failed"
DESCRIPTION = "Finish a trial that `fisherbo ask` or `optuna ask` began."
EXAMPLES = """examples:
  fisherbo tell mine --storage mine.db --trial 1 --values 0.3
  fisherbo tell mine --storage mine.db --trial 2 --state fail
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_study(parser)
    parser.add_argument(
        "--trial", "--trial-number", type=seed, required=True, metavar="N", help="its number"
    )
    parser.add_argument(
        "--values", type=float, nargs="+", default=None, metavar="V", help="one for each objective"
    )
    parser.add_argument(
        "--state", choices=["complete", "fail", "pruned"], default="complete",
        help="how it ended (default: complete; the others need no values)",
    )  # fmt: skip
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo tell`."""
    from optuna.trial import TrialState

    from fisherbo.tuning.samplers import trial_sampler
    from fisherbo.tuning.storage import answering, storage_name

    quiet()
    sampler = trial_sampler("fisher", 0)
    study = load(arguments.storage, arguments.study, sampler)
    with answering(storage_name(arguments.storage)):
        trial = _running(study, arguments.trial)
        state = TrialState[arguments.state.upper()]
        values = _values(study, arguments.values, arguments.state)
        study.tell(trial.number, values, state=state)
        told = study.get_trials(deepcopy=False)[trial.number]
    if arguments.format == "json":
        print_json({"number": told.number, "state": arguments.state, "values": told.values})
    else:
        shown = " ".join(f"{value:.6g}" for value in told.values or [])
        print(f"trial {told.number} {arguments.state}{f': {shown}' if shown else ''}")
    return 0


def _running(study: Study, number: int) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    unfinished = [str(t.number) for t in trials if not t.state.is_finished()]
    remedy = f"trials under way: {', '.join(unfinished) or 'none'}"
    if number >= len(trials):
        raise InvalidInputError(
            f"trial {number} must be in study {study.study_name!r}, which has {len(trials)}; "
            f"{remedy}"
        )
    found = trials[number]
    if found.state.is_finished():
        raise InvalidInputError(
            f"trial {number} of study {study.study_name!r} must be under way, got "
            f"{found.state.name.lower()} already; {remedy}"
        )
    return found


def _values(study: Study, values: list[float] | None, state: str) -> list[float] | None:
    if state == "fail" and values is not None:
        raise InvalidInputError("--state fail goes without --values")
    if state == "pruned" and values is not None and len(study.directions) > 1:
        raise InvalidInputError("a pruned trial of several objectives has no values")
    if values is None:
        if state == "complete":
            raise InvalidInputError("--values is needed, or --state fail or pruned")
        return None
    if len(values) != len(study.directions):
        raise InvalidInputError(
            f"--values must be one for each objective, {len(study.directions)}, got {len(values)}"
        )
    if any(map(math.isnan, values)):
        raise InvalidInputError("--values must be numbers, got nan; a trial without: --state fail")
    return values
