"""The samplers that are compared, by name, at the settings their authors chose.

    fisher  gp  tpe  cmaes  random      Optuna's own
    botorch    pip install -c constraints.txt optuna-integration botorch==0.18.1
    smac       pip install -c constraints.txt smac
    hebo       its own environment, its interpreter in FISHERBO_HEBO_PYTHON; see hebo_worker.py

Peers from outside Optuna ask and tell behind :class:`PeerSampler`.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from experiments.harness.problems import Params, Problem
from experiments.harness.provenance import source_digest

SAMPLERS = ("fisher", "gp", "tpe", "cmaes", "random", "smac", "botorch", "hebo")
_SAMPLER_CODE = ("space.py", "geometry", "optimize", "gp", "acquisition", "botorch", "sampler")
_PACKAGES = {"smac": "smac", "botorch": "optuna-integration"}
HEBO_PYTHON = Path(os.environ.get("FISHERBO_HEBO_PYTHON", "/tmp/hebo-env/bin/python"))
HEBO_VERSION = "0.3.6"


class Peer(Protocol):
    """An optimizer with its own ask and tell, which has used some CPU seconds elsewhere."""

    cpu_seconds: float

    def ask(self) -> Params:
        """The next point."""

    def tell(self, params: Params, value: float) -> None:
        """The loss at a point, asked for or not."""


class PeerSampler(optuna.samplers.BaseSampler):
    """A peer as Optuna sees it: asked for all parameters of a trial at once, told when it ends."""

    def __init__(self, problem: Problem, peer: Peer) -> None:
        self.peer = peer
        self._space = dict(problem.space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The problem's whole space: it is known beforehand."""
        return self._space

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> Params:
        """The peer's suggestion."""
        return self.peer.ask()

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Never needed: the peer knows the space."""
        raise RuntimeError(f"the peer left out {param_name!r}")

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the peer, of the first points too, which it did not ask for."""
        if values is not None:
            self.peer.tell(trial.params, values[0])


class Smac:
    """SMAC3's facade for hyperparameters (random forest, log EI), without its own first points."""

    def __init__(self, problem: Problem, seed: int) -> None:
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario

        logging.getLogger("smac").setLevel(logging.ERROR)
        self.cpu_seconds = 0.0
        self._space = problem.space
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
        self._asked: dict[Any, Any] = {}

    def ask(self) -> Params:
        """The facade's next configuration."""
        info = self._smac.ask()
        self._asked = {info.config: info}
        return {name: _from_smac(self._space[name], v) for name, v in dict(info.config).items()}

    def tell(self, params: Params, value: float) -> None:
        """Tell the facade a loss, of a configuration that it asked for or not."""
        from ConfigSpace import Configuration
        from smac.runhistory import TrialInfo, TrialValue

        values = {name: _to_smac(self._space[name], v) for name, v in params.items()}
        config = Configuration(self._configs, values=values)
        info = self._asked.get(config, TrialInfo(config, seed=0))
        self._smac.tell(info, TrialValue(cost=value), save=False)


def _config_space(problem: Problem, seed: int) -> Any:
    """The problem's space and conditions in ConfigSpace's words; a stepped range is an index."""
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
            case FloatDistribution(high=high) | IntDistribution(high=high):
                space.add(cs.UniformIntegerHyperparameter(name, 0, _to_smac(distribution, high)))
    for child, (parent, values) in problem.conditions.items():
        space.add(cs.InCondition(space[child], space[parent], list(values)))
    return space


def _to_smac(distribution: BaseDistribution, value: Any) -> Any:
    """A value, or its index in a stepped range."""
    match distribution:
        case FloatDistribution(low=low, step=float(step)):
            return round((value - low) / step)
        case IntDistribution(low=low, step=step) if step != 1:
            return (value - low) // step
        case _:
            return value


def _from_smac(distribution: BaseDistribution, value: Any) -> Any:
    """The inverse of :func:`_to_smac`, in Python's own types."""
    match distribution:
        case FloatDistribution(low=low, step=float(step)):
            return low + step * int(value)
        case IntDistribution(low=low, step=step):
            return low + step * int(value) if step != 1 else int(value)
        case FloatDistribution():
            return float(value)
        case _:
            return value.item() if isinstance(value, np.generic) else value


class Hebo:
    """HEBO in a process of its own interpreter, by lines of JSON (see hebo_worker.py)."""

    def __init__(self, problem: Problem, seed: int) -> None:
        if problem.conditions:
            raise ValueError(f"HEBO has no conditional parameters, as {problem.name} has")
        self.cpu_seconds = 0.0
        command = [str(HEBO_PYTHON), str(Path(__file__).with_name("hebo_worker.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        space = {
            name: optuna.distributions.distribution_to_json(d) for name, d in problem.space.items()
        }
        self._call({"space": space, "seed": seed})

    def ask(self) -> Params:
        """HEBO's next point."""
        return dict(self._call({"ask": True})["params"])

    def tell(self, params: Params, value: float) -> None:
        """Tell HEBO a loss."""
        self._call({"params": params, "value": value})

    def __del__(self) -> None:
        self._process.communicate()

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"HEBO's process ended; see its own message above ({HEBO_PYTHON})")
        answer: dict[str, Any] = json.loads(line)
        self.cpu_seconds += answer["cpu_seconds"]
        return answer


def make_sampler(
    name: str, seed: int, problem: Problem | None = None
) -> optuna.samplers.BaseSampler:
    """A sampler at its authors' settings; those from outside Optuna want to know the problem."""
    if name in PEERS:
        if problem is None:
            raise ValueError(f"sampler {name!r} needs the problem, got None")
        return PeerSampler(problem, PEERS[name](problem, seed))
    return OPTUNA[name](seed)


def _fisher(seed: int) -> optuna.samplers.BaseSampler:
    from fisherbo import FisherSampler

    return FisherSampler(seed=seed)


def _botorch(seed: int) -> optuna.samplers.BaseSampler:
    from optuna_integration import BoTorchSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = BoTorchSampler(n_startup_trials=10, seed=seed)
    return sampler


OPTUNA: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "fisher": _fisher,
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "botorch": _botorch,
}
PEERS: dict[str, Callable[[Problem, int], Peer]] = {"smac": Smac, "hebo": Hebo}


def missing(name: str) -> str | None:
    """One line that says why a sampler cannot run here; None where it can."""
    if name == "hebo":
        return None if HEBO_PYTHON.exists() else f"hebo: no interpreter at {HEBO_PYTHON}"
    package = _PACKAGES.get(name, "optuna")
    try:
        version(package)
    except PackageNotFoundError:
        return f"{name}: not installed; pip install -c constraints.txt {package}"
    return None


@cache
def sampler_version(name: str) -> str:
    """Version of a peer's package, or a digest of fisherbo's sampler source."""
    match name:
        case "smac":
            return f"smac-{version('smac')}"
        case "botorch":
            return f"botorch-{version('botorch')}"
        case "hebo":
            return f"hebo-{HEBO_VERSION}"
        case "fisher":
            return source_digest(*_SAMPLER_CODE)
        case _:
            return f"optuna-{version('optuna')}"
