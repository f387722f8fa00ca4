"""`fisherbo ask`: the next trial of a study, for evaluation outside Python."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fisherbo.cli.arguments import add_format, seed
from fisherbo.cli.output import print_json
from fisherbo.cli.studies import (
    add_creation,
    add_study,
    directions_of,
    exists,
    load,
    quiet,
    require_directions,
)
from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study

    from fisherbo.sampler.next_trial import NextTrial

HELP = "suggest the next trial of a study"
DESCRIPTION = (
    "Suggest the next trial of a study and leave it running; `fisherbo tell` takes its value."
)
EXAMPLES = """examples:
  fisherbo ask mine --storage mine.db --create -p x=-5:5 -p lr=1e-5:1:log -p n=1:20:int -p k=a,b
      the first trial tells the parameters: float, log float, integer, choice of texts
  fisherbo ask mine --storage mine.db -f json
      later ones take them from the study; {"number": 1, "params": {...}}
  fisherbo ask mine --storage mine.db --dry-run --explain
      what would be suggested, what is expected of it and why; nothing is stored
"""

_OTHER_PARAMETERS = (
    "The study's trials have other parameters, so that nothing is known of this one yet."
)
MAX_INT = 2**53  # storages keep parameters in float64
_KINDS = ("log", "int")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_study(parser)
    parser.add_argument(
        "-p", "--param", action="append", default=[], type=_parameter, metavar="NAME=RANGE",
        help="a parameter: LOW:HIGH, with :log, :int or both; or choices between commas",
    )  # fmt: skip
    parser.add_argument(
        "--search-space", type=_search_space, default={}, metavar="JSON",
        help="parameters as `optuna ask` takes them (default: all that a trial of the study has)",
    )  # fmt: skip
    add_creation(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="store nothing: neither a trial nor the study"
    )
    parser.add_argument(
        "--explain", action="store_true",
        help="tell what the model expects of the trial, and why it goes there",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed (default: 0)")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo ask`."""
    from fisherbo.tuning.samplers import trial_sampler
    from fisherbo.tuning.storage import answering, storage_name

    quiet()
    asked = _asked(arguments)
    sampler = trial_sampler("fisher", arguments.seed)
    study = _study(arguments, sampler)
    with answering(storage_name(arguments.storage)):
        if asked:
            _require_compatible(study, asked)
        space = asked or _known(study)
        before = _copy(study, arguments.seed) if arguments.explain else None
        try:
            trial = study.ask(space)
        except BaseException:
            sampler.give_up(study)
            raise
    number = None if arguments.dry_run else trial.number
    found = None if before is None else _explained(before, trial.params)
    if arguments.format == "json":
        told = {} if found is None else _for_programs(found)
        print_json({"number": number, "params": trial.params, **told})
    else:
        head = f"trial {trial.number}" + (" (dry run: not stored)" if arguments.dry_run else "")
        lines = [] if found is None else _for_people(found)
        print("\n".join([head, *_lines(trial.params), *lines]))
    return 0


def _study(arguments: argparse.Namespace, sampler: BaseSampler) -> Study:
    """The study, or for a dry run a copy of it in memory."""
    import optuna

    create = directions_of(arguments)
    storage, name = arguments.storage, arguments.study
    if not arguments.dry_run:
        return load(storage, name, sampler, create)
    if create is not None and not exists(storage, name):
        return optuna.create_study(directions=create or ["minimize"], sampler=sampler)
    study = load(storage, name)
    require_directions(study, create or [])
    return _copy(study, arguments.seed)


def _copy(study: Study, seed: int) -> Study:
    """The study in memory, with all that its sampler has stored, and a new sampler."""
    import optuna

    from fisherbo.sampler import optuna_private
    from fisherbo.tuning.samplers import trial_sampler

    memory = optuna.storages.InMemoryStorage()
    optuna.copy_study(
        from_study_name=study.study_name,
        from_storage=optuna_private.storage_of(study),
        to_storage=memory,
    )
    return optuna.load_study(
        study_name=study.study_name, storage=memory, sampler=trial_sampler("fisher", seed)
    )


def _explained(before: Study, params: Mapping[str, Any]) -> NextTrial:
    """The trial with these parameters, what is expected of it, and why it goes there."""
    from optuna.trial import TrialState

    from fisherbo.sampler.next_trial import DESIGN, NextTrial, next_trial

    if not before.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return NextTrial(params, (), DESIGN)
    found = next_trial(before)
    if found.params != params:
        return NextTrial(params, (), _OTHER_PARAMETERS)
    return found


def _for_programs(found: NextTrial) -> dict[str, Any]:
    return {
        "expected": [asdict(expected) for expected in found.expected],
        "expected_improvement": found.expected_improvement,
        "probability_of_improvement": found.probability_of_improvement,
        "probability_of_feasibility": found.probability_of_feasibility,
        "reason": found.reason,
    }


def _for_people(found: NextTrial) -> list[str]:
    from fisherbo.sampler.next_trial import expectations

    several = len(found.expected) > 1
    names = [f"value {k}" if several else "value" for k in range(len(found.expected))]
    return ["", *map(": ".join, expectations(found, names)), found.reason]


def _asked(arguments: argparse.Namespace) -> dict[str, BaseDistribution]:
    """The parameters of the command line by name; none where the study is to tell them."""
    pairs = [*arguments.search_space.items(), *arguments.param]
    found: dict[str, BaseDistribution] = {}
    for name, distribution in pairs:
        if name in found:
            raise InvalidInputError(f"parameter {name!r} must be given once, got it twice")
        found[name] = distribution
    return found


def _require_compatible(study: Study, asked: Mapping[str, BaseDistribution]) -> None:
    """Pass if Optuna takes these parameters beside those of the study's trials.

    Raises:
        InvalidInputError: One is of another kind or scale, or has other choices.
    """
    from optuna.distributions import check_distribution_compatibility

    for trial in study.get_trials(deepcopy=False):
        for name, old in trial.distributions.items():
            new = asked.get(name, old)
            try:
                check_distribution_compatibility(old, new)
            except ValueError as error:
                raise InvalidInputError(
                    f"parameter {name!r} must be as in trial {trial.number} of study "
                    f"{study.study_name!r}, {old}, got {new}; only the bounds of a range may "
                    "change; leave it out to take all parameters from the study"
                ) from error


def _lines(params: Mapping[str, Any]) -> list[str]:
    width = max(map(len, params), default=0)
    return [f"  {name:<{width}}  {value}" for name, value in params.items()]


def _known(study: Study) -> dict[str, BaseDistribution]:
    """The latest distribution of every parameter that a trial of the study has."""
    found: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        found |= trial.distributions
    if not found:
        raise InvalidInputError(
            f"study {study.study_name!r} must have a trial that tells its parameters, got none; "
            "give them with -p NAME=LOW:HIGH"
        )
    return found


def _parameter(text: str) -> tuple[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution

    name, _, spec = text.partition("=")
    if not name or not spec:
        raise argparse.ArgumentTypeError(f"must be NAME=RANGE such as x=-5:5, got {text!r}")
    if ":" in spec:
        return name, _range(text, spec.split(":"))
    choices = [choice.strip() for choice in spec.split(",")]
    if "" in choices or len(set(choices)) < len(choices):
        raise argparse.ArgumentTypeError(
            f"must have choices that differ and are not empty, got {text!r}"
        )
    return name, CategoricalDistribution(choices)


def _range(text: str, parts: list[str]) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high, *kinds = parts
    if not set(kinds) <= set(_KINDS):
        raise argparse.ArgumentTypeError(f"must end with :log, :int or both, got {text!r}")
    try:
        if "int" in kinds:
            return _bounded(IntDistribution(int(low), int(high), log="log" in kinds))
        return _bounded(FloatDistribution(float(low), float(high), log="log" in kinds))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a range, got {text!r}: {error}") from error


def _bounded(distribution: BaseDistribution) -> BaseDistribution:
    """The distribution, if the width of its range is a number.

    Raises:
        ValueError: It is not: a bound is NaN or infinite, or the bounds are too far apart.
    """
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(distribution, FloatDistribution | IntDistribution):
        low, high = distribution.low, distribution.high
        if not math.isfinite(high - low):
            raise ValueError(f"bounds must be finite, got {low} and {high}")
        if isinstance(distribution, IntDistribution) and max(-low, high) > MAX_INT:
            raise ValueError(f"whole numbers must be within ±2^53, got {low} and {high}")
    return distribution


def _search_space(text: str) -> dict[str, BaseDistribution]:
    from optuna.distributions import json_to_distribution

    try:
        stored = json.loads(text)
        return {name: _bounded(json_to_distribution(json.dumps(d))) for name, d in stored.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"must be JSON of Optuna's distributions by name, got {text!r}: {error}"
        ) from error
