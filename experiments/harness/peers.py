"""The samplers that are compared, by name, at the settings their authors chose.

    fisher  gp  tpe  cmaes  random      Optuna's own
    lq         lq_cma.py; pip install -c constraints.txt cma
    botorch    pip install -c constraints.txt optuna-integration botorch==0.18.1
    smac       pip install -c constraints.txt smac
    hebo       its own environment, its interpreter in FISHERBO_HEBO_PYTHON; see hebo_worker.py

SMAC and HEBO have an ask and a tell of their own, which `traces.optimize` calls.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import warnings
import weakref
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.harness.problems import Params, Problem, levels
from experiments.harness.provenance import not_installed, source_digest

SAMPLERS = ("fisher", "gp", "tpe", "cmaes", "random", "smac", "botorch", "hebo", "lq")
_SAMPLER_CODE = (
    *("space.py", "kinds.py", "prior.py", "sobol.py", "geometry", "optimize", "gp"),
    *("acquisition", "botorch", "sampler"),
)
_NEEDED = {"smac": "smac", "botorch": "optuna-integration", "lq": "cma"}
_VERSIONED = {"smac": "smac", "botorch": "botorch", "lq": "cma"}
HEBO_PYTHON = Path(os.environ.get("FISHERBO_HEBO_PYTHON", "/tmp/hebo-env/bin/python"))
HEBO_VERSION = "0.3.6"


class Smac:
    """SMAC3's facade for hyperparameters (random forest, log EI), without its own first points."""

    cpu_seconds = 0.0  # beside those of this process

    def __init__(self, problem: Problem, seed: int) -> None:
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario

        logging.getLogger("smac").setLevel(logging.ERROR)
        self._folder = tempfile.TemporaryDirectory()
        self._configs = _config_space(problem, seed)
        scenario = Scenario(
            self._configs,
            deterministic=True,
            n_trials=1000,
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = Facade(
            scenario,
            lambda config, seed=0: 0.0,
            initial_design=Facade.get_initial_design(scenario, n_configs=0),
            intensifier=Facade.get_intensifier(scenario, max_config_calls=1),
            logging_level=False,
            overwrite=True,
        )

    def ask(self) -> Params:
        """The facade's next configuration."""
        config = dict(self._smac.ask().config)
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in config.items()}

    def tell(self, params: Params, value: float) -> None:
        """Tell the facade a loss, of a configuration that it asked for or not."""
        from ConfigSpace import Configuration
        from smac.runhistory import TrialInfo, TrialValue

        config = Configuration(self._configs, values=params)
        self._smac.tell(TrialInfo(config, seed=0), TrialValue(cost=value), save=False)


def _config_space(problem: Problem, seed: int) -> Any:
    """The problem's space and conditions in ConfigSpace's words."""
    import ConfigSpace as cs

    space = cs.ConfigurationSpace(seed=seed)
    for name, distribution in problem.space.items():
        match distribution:
            case CategoricalDistribution(choices=choices):
                space.add(cs.CategoricalHyperparameter(name, list(choices)))
            case FloatDistribution(low=low, high=high, step=None, log=log):
                space.add(cs.UniformFloatHyperparameter(name, low, high, log=log))
            case IntDistribution(low=low, high=high, step=1, log=log):
                space.add(cs.UniformIntegerHyperparameter(name, low, high, log=log))
            case _:
                space.add(cs.OrdinalHyperparameter(name, list(levels(distribution) or ())))
    for child, (parent, values) in problem.conditions.items():
        space.add(cs.InCondition(space[child], space[parent], list(values)))
    return space


class Hebo:
    """HEBO in a process of its own interpreter, by lines of JSON (see hebo_worker.py)."""

    def __init__(self, problem: Problem, seed: int) -> None:
        if problem.conditions:
            raise ValueError(f"HEBO has no conditional parameters, as {problem.name} has")
        self.cpu_seconds = 0.0
        self._space = problem.space
        records = [{"name": name, **_record(d)} for name, d in problem.space.items()]
        worker = Path(__file__).with_name("hebo_worker.py")
        command: list[str | Path] = [HEBO_PYTHON, worker, json.dumps(seed), json.dumps(records)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        weakref.finalize(self, self._process.communicate)  # ends its input, and waits

    def ask(self) -> Params:
        """HEBO's next point."""
        params = self._call({})["params"]
        return {name: _from_hebo(d, params[name]) for name, d in self._space.items()}

    def tell(self, params: Params, value: float) -> None:
        """Tell HEBO a loss."""
        point = {name: _to_hebo(d, params[name]) for name, d in self._space.items()}
        self._call({"params": point, "value": value})

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"HEBO's process ended; see its own message above ({HEBO_PYTHON})")
        answer: dict[str, Any] = json.loads(line)
        self.cpu_seconds += answer["cpu_seconds"]
        return answer


def _record(distribution: Any) -> dict[str, Any]:
    """A parameter in the words of HEBO's design space; of what has levels, their indices."""
    if (values := levels(distribution)) is not None:
        if isinstance(distribution, CategoricalDistribution):
            return {"type": "cat", "categories": list(range(len(values)))}
        return {"type": "int", "lb": 0, "ub": len(values) - 1}
    integer = isinstance(distribution, IntDistribution)
    kind = "pow_int" if integer else "pow" if distribution.log else "num"
    return {"type": kind, "lb": distribution.low, "ub": distribution.high, "base": 10}


def _to_hebo(distribution: BaseDistribution, value: Any) -> Any:
    values = levels(distribution)
    return value if values is None else values.index(value)


def _from_hebo(distribution: Any, found: Any) -> Any:
    """HEBO's value as Optuna's; powers may end just outside of their range."""
    if (values := levels(distribution)) is not None:
        return values[int(found)]
    return type(distribution.low)(min(max(found, distribution.low), distribution.high))


PEERS: dict[str, Callable[[Problem, int], Smac | Hebo]] = {"smac": Smac, "hebo": Hebo}


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A sampler of Optuna's at its authors' settings."""
    from optuna.samplers import CmaEsSampler, GPSampler, RandomSampler, TPESampler

    from experiments.lq_cma import LqCmaSampler
    from fisherbo import FisherSampler

    makers: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
        "fisher": FisherSampler,
        "gp": partial(GPSampler, warn_independent_sampling=False),
        "tpe": TPESampler,
        "cmaes": partial(CmaEsSampler, warn_independent_sampling=False),
        "random": RandomSampler,
        "botorch": _botorch,
        "lq": LqCmaSampler,
    }
    return makers[name](seed=seed)


def _botorch(seed: int) -> optuna.samplers.BaseSampler:
    from optuna_integration import BoTorchSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = BoTorchSampler(n_startup_trials=10, seed=seed)
    return sampler


def missing(name: str) -> str | None:
    """One line that says why a sampler cannot run here; None where it can."""
    if name == "hebo":
        return None if HEBO_PYTHON.exists() else f"hebo: no interpreter at {HEBO_PYTHON}"
    return not_installed(name, _NEEDED.get(name, "optuna"))


@cache
def sampler_version(name: str) -> str:
    """Version of a peer's package, or a digest of fisherbo's sampler source."""
    if name == "fisher":
        return source_digest(*_SAMPLER_CODE)
    if name == "hebo":
        return f"hebo-{HEBO_VERSION}"
    package = _VERSIONED.get(name, "optuna")
    try:
        return f"{package}-{version(package)}"
    except PackageNotFoundError:
        return f"{package}, not installed"
