"""`fisherbo ask`: the next trial of a study, for evaluation outside Python."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fisherbo.cli.arguments import add_format, seed
from fisherbo.cli.output import print_json
from fisherbo.cli.studies import add_study, load, quiet
from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

HELP = "suggest the next trial of a study"
DESCRIPTION = (
    "Suggest the next trial of a study and leave it running; `optuna tell` takes its value."
)
EXAMPLES = """examples:
  optuna create-study --storage sqlite:///mine.db --study-name mine
  fisherbo ask mine --storage sqlite:///mine.db -p x=-5:5 -p lr=1e-5:1:log -p n=1:20:int -p k=a,b
      the first trial tells the parameters: float, log float, integer, choice of texts
  fisherbo ask mine --storage sqlite:///mine.db -f json
      later ones take them from the study; {"number": 1, "params": {...}}
  optuna tell --storage sqlite:///mine.db --study-name mine --trial-number 1 --values 0.3
"""

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
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed (default: 0)")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo ask`."""
    from fisherbo.tuning.samplers import trial_sampler
    from fisherbo.tuning.storage import answering

    quiet()
    asked = _asked(arguments)
    sampler = trial_sampler("fisher", arguments.seed)
    study = load(arguments.storage, arguments.study, sampler)
    with answering(arguments.storage):
        if asked:
            _require_compatible(study, asked)
        try:
            trial = study.ask(asked or _known(study))
        except BaseException:
            sampler.give_up(study)
            raise
    if arguments.format == "json":
        print_json({"number": trial.number, "params": trial.params})
    else:
        print("\n".join([f"trial {trial.number}", *_lines(trial.params)]))
    return 0


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
