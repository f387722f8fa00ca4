"""Surfaces of YAHPO Gym (Pfisterer et al. 2022): networks fitted to recorded evaluations.

The folder has one folder for each scenario, as in the public repository slds-lmu/yahpo_data:
``model.onnx``, ``encoding.json`` (numbers of categories) and ``config_space.json``. Which inputs a
network takes, in which order, is written in no file of it, so it is here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.harness.problems import Params

Array = NDArray[np.float64]
Conditions = dict[str, tuple[str, tuple[Any, ...]]]

_NEW = ("acc", "bac", "auc", "brier", "f1", "logloss", "timetrain", "timepredict", "memory")
_OLD = ("mmce", "f1", "auc", "logloss", "timetrain", "timepredict")
_XGBOOST = (
    *("nrounds", "eta", "gamma", "lambda", "alpha", "subsample", "max_depth", "min_child_weight"),
    *("colsample_bytree", "colsample_bylevel"),
)
_SVM = ("cost", "gamma", "tolerance", "degree")
_RPART = ("cp", "maxdepth", "minbucket", "minsplit")
_AKNN = ("k", "M", "ef", "ef_construction")
_RANGER = (*("num.trees", "sample.fraction", "mtry.power", "min.node.size", "num.random.splits"),)
_DARTS = "NetworkSelectorDatasetInfo_COLON_darts_COLON_"
_IMPUTE = "num.impute.selected.cpo"
_SECONDS = ("time", "timetrain", "runtime")
_FULL: Params = {"trainsize": 1.0, "repl": 10}


@dataclass(frozen=True)
class Scenario:
    """What a network takes and gives.

    Attributes:
        numbers: Names of its numeric inputs, in order.
        categories: Names of its categorical inputs, in order.
        outputs: Names of its outputs, in order.
        output: The one that is the objective.
        maximised: Whether more of it is better.
        fixed: Inputs that are no hyperparameters, and their values.
        task: Name of the input that tells the data set; "" if there is one alone.
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    outputs: tuple[str, ...]
    output: str
    maximised: bool
    fixed: Mapping[str, Any]
    task: str = "task_id"

    @property
    def seconds(self) -> str:
        """The output that is the duration of an evaluation."""
        return next(name for name in self.outputs if name in _SECONDS)


def _rbv2(
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
    outputs: tuple[str, ...] = _OLD,
    output: str = "mmce",
) -> Scenario:
    return Scenario(
        (*numbers, "trainsize", "repl"),
        ("task_id", *categories, _IMPUTE),
        outputs,
        output,
        output != "mmce",
        _FULL,
    )


SCENARIOS: Mapping[str, Scenario] = {
    "lcbench": Scenario(
        (
            *("epoch", "batch_size", "learning_rate", "momentum", "weight_decay"),
            *("num_layers", "max_units", "max_dropout"),
        ),
        ("OpenML_task_id",),
        (
            *("time", "val_accuracy", "val_cross_entropy", "val_balanced_accuracy"),
            *("test_cross_entropy", "test_balanced_accuracy"),
        ),
        "val_accuracy",
        True,
        {"epoch": 52},
        "OpenML_task_id",
    ),
    "nb301": Scenario(
        ("epoch",),
        (
            *(f"{_DARTS}edge_{kind}_{i}" for kind in ("normal", "reduce") for i in range(14)),
            *(
                f"{_DARTS}inputs_node_{kind}_{i}"
                for kind in ("normal", "reduce")
                for i in (3, 4, 5)
            ),
        ),
        ("val_accuracy", "runtime"),
        "val_accuracy",
        True,
        {"epoch": 98},
        "",
    ),
    "rbv2_xgboost": _rbv2((*_XGBOOST, "rate_drop", "skip_drop"), ("booster",), _NEW, "bac"),
    "rbv2_rpart": _rbv2(_RPART, (), _NEW, "acc"),
    "rbv2_svm": _rbv2(_SVM, ("kernel",)),
    "rbv2_aknn": _rbv2(_AKNN, ("distance",)),
    "rbv2_glmnet": _rbv2(("alpha", "s"), ()),
    "rbv2_ranger": Scenario(
        (*_RANGER, "trainsize"),
        ("task_id", "respect.unordered.factors", "splitrule", "replace", _IMPUTE, "repl"),
        ("acc", "bac", "auc", "brier", "logloss", "timetrain", "timepredict"),
        "acc",
        True,
        {"trainsize": 1.0, "repl": "10"},
    ),
    "rbv2_super": _rbv2(
        (
            *(f"svm.{name}" for name in _SVM),
            *("glmnet.alpha", "glmnet.s"),
            *(f"rpart.{name}" for name in _RPART),
            *(f"ranger.{name}" for name in _RANGER),
            *(f"aknn.{name}" for name in _AKNN),
            *(f"xgboost.{name}" for name in (*_XGBOOST, "rate_drop", "skip_drop")),
        ),
        (
            *("learner_id", "svm.kernel", "ranger.respect.unordered.factors", "ranger.splitrule"),
            *("aknn.distance", "xgboost.booster"),
        ),
    ),
    "iaml_xgboost": Scenario(
        (*_XGBOOST, "rate_drop", "skip_drop", "trainsize"),
        ("task_id", "booster"),
        (
            *("mmce", "f1", "auc", "logloss", "ramtrain", "rammodel", "rampredict", "timetrain"),
            *("timepredict", "mec", "ias", "nf"),
        ),
        "mmce",
        False,
        {"trainsize": 1.0},
    ),
}


@dataclass(frozen=True)
class Surface:
    """One task of a scenario, to be minimised; its network is loaded when it is first asked.

    Attributes:
        folder: The scenario's folder.
        scenario: What its network takes.
        task: Label of the data set; "" if there is one alone.
    """

    folder: Path
    scenario: Scenario
    task: str

    @cached_property
    def fixed(self) -> Params:
        """Inputs that a study does not choose."""
        name = self.scenario.task
        return {**self.scenario.fixed, **({name: self.task} if name else {})}

    @cached_property
    def space(self) -> dict[str, BaseDistribution]:
        """Hyperparameters, parents before those that depend on them."""
        raw = self._json("config_space.json")["hyperparameters"]
        named = {
            h["name"]: _distribution(h)
            for h in raw
            if h["name"] not in self.fixed and h["type"] != "constant"
        }
        return {name: named[name] for name in sorted(named, key=self._depth)}

    @cached_property
    def conditions(self) -> Conditions:
        """Which parent's values a hyperparameter exists for.

        Where a file names a parent and its own parent (AND), the former tells both.
        """
        parts: dict[str, list[dict[str, Any]]] = {}
        for c in self._json("config_space.json")["conditions"]:
            parts[c["child"]] = c["conditions"] if c["type"] == "AND" else [c]
        found: Conditions = {}
        for child, all_of in parts.items():
            nearest = max(all_of, key=lambda c: c["parent"] in parts)
            values = nearest["values"] if nearest["type"] == "IN" else [nearest["value"]]
            found[child] = nearest["parent"], tuple(values)
        return found

    def loss(self, params: Params, **fixed: Any) -> float:
        """The objective of a configuration; ``fixed`` replaces fixed inputs, such as ``epoch``."""
        return float(self.losses([params], **fixed)[0])

    def losses(self, many: Sequence[Params], **fixed: Any) -> Array:
        """The objective of several configurations, shape ``(b,)``."""
        kind = self.scenario
        values: Array = self.outputs(many, **fixed)[:, kind.outputs.index(kind.output)]
        return -values if kind.maximised else values

    def loss_and_seconds(self, params: Params) -> tuple[float, float]:
        """The objective of a configuration, and how long its evaluation takes."""
        kind = self.scenario
        found = self.outputs([params])[0]
        value = float(found[kind.outputs.index(kind.output)])
        seconds = float(found[kind.outputs.index(kind.seconds)])
        return -value if kind.maximised else value, seconds

    def outputs(self, many: Sequence[Params], **fixed: Any) -> Array:
        """All outputs of the network, in the scenario's order, shape ``(b, outputs)``."""
        kind, session = self.scenario, self._session
        rows = [{**params, **self.fixed, **fixed} for params in many]
        codes = [
            [self._codes[n].get(str(r.get(n, "#na#")), 0) for n in kind.categories] for r in rows
        ]
        numbers = [[float(r.get(n, 0.0)) for n in kind.numbers] for r in rows]
        x_cat, x_cont = np.array(codes, np.int32), np.array(numbers, np.float32)
        width = 1 if session.get_inputs()[0].shape[0] == 1 else len(rows)
        out = [
            session.run(None, {"x_cat": x_cat[i : i + width], "x_cont": x_cont[i : i + width]})[0]
            for i in range(0, len(rows), width)
        ]
        return np.vstack(out).astype(np.float64)

    @cached_property
    def _codes(self) -> dict[str, dict[str, int]]:
        codes: dict[str, dict[str, int]] = self._json("encoding.json")
        return codes

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(self.folder / "model.onnx")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _depth(self, name: str) -> int:
        return 0 if name not in self.conditions else 1 + self._depth(self.conditions[name][0])

    def _json(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / name).read_text())
        return read


def surface(name: str, folder: Path) -> Surface:
    """The surface ``"scenario/task"`` of a folder of scenarios."""
    scenario, _, task = name.partition("/")
    return Surface(folder / scenario, SCENARIOS[scenario], task)


def _distribution(h: Mapping[str, Any]) -> BaseDistribution:
    if h["type"] == "categorical":
        return CategoricalDistribution(h["choices"])
    if h["type"] == "uniform_int":
        return IntDistribution(h["lower"], h["upper"], log=h["log"])
    return FloatDistribution(h["lower"], h["upper"], log=h["log"])
