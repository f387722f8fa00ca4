"""`fisherbo ask`: the next trial of a study, for evaluation outside Python."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fisherbo.cli.arguments import add_format, seed
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
    from fisherbo.sampler.sampler import FisherSampler
    from fisherbo.tuning.storage import answering

    quiet()
    study = load(arguments.storage, arguments.study, FisherSampler(seed=arguments.seed))
    asked = {**arguments.search_space, **dict(arguments.param)}
    with answering(arguments.storage):
        trial = study.ask(asked or _known(study))
    if arguments.format == "json":
        print(json.dumps({"number": trial.number, "params": trial.params}))
    else:
        print("\n".join([f"trial {trial.number}", *_lines(trial.params)]))
    return 0


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
    if ":" not in spec:
        return name, CategoricalDistribution([choice.strip() for choice in spec.split(",")])
    return name, _range(text, spec.split(":"))


def _range(text: str, parts: list[str]) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high, *kinds = parts
    if not set(kinds) <= set(_KINDS):
        raise argparse.ArgumentTypeError(f"must end with :log, :int or both, got {text!r}")
    try:
        if "int" in kinds:
            return IntDistribution(int(low), int(high), log="log" in kinds)
        return FloatDistribution(float(low), float(high), log="log" in kinds)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a range, got {text!r}: {error}") from error


def _search_space(text: str) -> dict[str, BaseDistribution]:
    from optuna.distributions import json_to_distribution

    try:
        stored = json.loads(text)
        return {name: json_to_distribution(json.dumps(d)) for name, d in stored.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"must be JSON of Optuna's distributions by name, got {text!r}: {error}"
        ) from error
