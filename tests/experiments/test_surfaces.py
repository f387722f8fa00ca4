"""Surfaces of YAHPO Gym: what a network is asked, and how regret is scaled."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from experiments import surfaces, yahpo
from experiments.harness.comparison import Comparison
from experiments.harness.problems import Problem
from experiments.summary import scenario_ranks

SPACE: dict[str, Any] = {
    "hyperparameters": [
        {"name": "kernel", "type": "categorical", "choices": ["radial", "polynomial"]},
        {"name": "degree", "type": "uniform_int", "lower": 2, "upper": 5, "log": False},
        {"name": "scale", "type": "uniform_float", "lower": 0.1, "upper": 10.0, "log": True},
        {"name": "task_id", "type": "categorical", "choices": ["3", "12"]},
        {"name": "trainsize", "type": "uniform_float", "lower": 0.03, "upper": 1.0, "log": False},
        {"name": "version", "type": "constant", "value": 1},
    ],
    "conditions": [
        {
            "child": "scale",
            "type": "AND",
            "conditions": [
                {"child": "scale", "parent": "kernel", "type": "EQ", "value": "polynomial"},
                {"child": "scale", "parent": "degree", "type": "IN", "values": [3, 4]},
            ],
        },
        {"child": "degree", "parent": "kernel", "type": "EQ", "value": "polynomial"},
    ],
}
CODES = {"task_id": {"3": 0, "12": 1}, "kernel": {"#na#": 0, "radial": 1, "polynomial": 2}}
SCENARIO = yahpo.Scenario(
    ("degree", "scale", "trainsize"),
    ("task_id", "kernel"),
    ("time", "acc"),
    "acc",
    True,
    {"trainsize": 1.0},
)


class Network:
    """Notes what it is asked, and answers with 100 and a sum of the inputs."""

    def __init__(self, rows: int | str) -> None:
        self.rows = rows
        self.asked: list[tuple[list[list[float]], list[list[float]]]] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(shape=[self.rows, 2])]

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        cat, cont = inputs["x_cat"], inputs["x_cont"]
        assert (cat.dtype, cont.dtype) == (np.int32, np.float32)
        self.asked.append((cat.tolist(), cont.tolist()))
        return [np.column_stack([np.full(len(cat), 100.0), cat.sum(1) + cont.sum(1)])]


@pytest.fixture
def surface(tmp_path: Path) -> yahpo.Surface:
    (tmp_path / "config_space.json").write_text(json.dumps(SPACE))
    (tmp_path / "encoding.json").write_text(json.dumps(CODES))
    return yahpo.Surface(tmp_path, SCENARIO, "12")


def test_parents_come_first_and_inputs_that_no_study_chooses_are_left_out(
    surface: yahpo.Surface,
) -> None:
    assert list(surface.space) == ["kernel", "degree", "scale"]
    assert surface.conditions == {
        "scale": ("degree", (3, 4)),
        "degree": ("kernel", ("polynomial",)),
    }


@pytest.mark.parametrize("rows", [1, "batch_size"])
def test_a_network_gets_its_inputs_in_its_order(surface: yahpo.Surface, rows: int | str) -> None:
    network = Network(rows)
    vars(surface)["_session"] = network  # in the place of the cached property
    many = [{"kernel": "polynomial", "degree": 3, "scale": 0.5}, {"kernel": "radial"}]
    assert surface.losses(many) == pytest.approx([-(1 + 2 + 3 + 0.5 + 1), -(1 + 1 + 1)])
    asked = [row for cat, cont in network.asked for row in zip(cat, cont, strict=True)]
    assert asked == [([1, 2], [3, 0.5, 1]), ([1, 1], [0, 0, 1])]
    assert len(network.asked) == (2 if rows == 1 else 1)
    assert surface.loss(many[1], trainsize=0.25) == pytest.approx(-2.25)
    assert surface.loss_and_seconds(many[1]) == pytest.approx((-3.0, 100.0))


def test_only_parameters_that_exist_are_asked_for(surface: yahpo.Surface) -> None:
    problem = Problem("x", surface.space, lambda params: 0.0, surface.conditions)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = {tuple(problem.suggest(study.ask())) for _ in range(60)}
    assert seen == {("kernel",), ("kernel", "degree"), ("kernel", "degree", "scale")}
    whole = {"kernel": "radial", "degree": 3, "scale": 1.0}
    assert surfaces.existing(problem, whole) == {"kernel": "radial"}
    assert surfaces.existing(problem, whole | {"kernel": "polynomial"}) == whole | {
        "kernel": "polynomial"
    }


def test_development_and_final_tasks_are_disjoint_and_scaled() -> None:
    development, final = surfaces.names(surfaces.DEVELOPMENT), surfaces.names(surfaces.FINAL)
    assert set(development).isdisjoint(final)
    assert set(surfaces.scales()) == {*development, *final}
    assert all(best < median for best, median in surfaces.scales().values())


def test_regret_is_0_at_the_best_known_and_1_at_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "scales", lambda: {"lcbench/3945": (-90.0, -50.0)})
    monkeypatch.setattr(surfaces, "shipped", lambda name: {})
    scale = surfaces.regret()
    found = scale("lcbench/3945", np.array([-20.0, -50.0, -70.0, -90.0, -94.0]))
    assert found == pytest.approx([1.0, 1.0, 0.5, 0.0, -0.1])


def test_ranks_are_averaged_over_the_runs_of_a_scenario_that_all_samplers_have():
    def traces(*losses):
        pairs = [("a/1", 0), ("a/2", 0), ("b/1", 0), ("b/1", 1)]
        return {p: np.array([9.0, loss]) for p, loss in zip(pairs, losses, strict=False)}

    best = {"fisher": traces(1, 2, 3, 0), "gp": traces(2, 2, 1), "random": traces(3, 3, 3, 3)}
    table = scenario_ranks(Comparison("regret", best, {}))
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["a", "b", "all"]
    assert columns[1] == ["2", "1", "3"]
    assert columns[2:] == [
        ["1.25", "2.50", "1.67"],
        ["1.75", "1.00", "1.50"],
        ["3.00", "2.50", "2.83"],
    ]
