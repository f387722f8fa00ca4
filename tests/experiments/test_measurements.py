"""Latency, ascent, scale, robustness: inputs are what they say, statistics right, mains run."""

import dataclasses
import json
import math
import sys

import numpy as np
import optuna
import pytest

from experiments import ascent, faulty, latency, robustness, scale
from experiments.harness import rows
from fisherbo.acquisition.log_ei import log_expected_improvement


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Rows and reports go here."""
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rows, "REPORTS", tmp_path / "results")
    return tmp_path


@dataclasses.dataclass(frozen=True)
class Toy:
    name: str

    def key(self):
        return self.name


def double(cell):
    if cell.name == "bad":
        raise ArithmeticError("no such number")
    return {"value": 2 * len(cell.name)}


@pytest.mark.parametrize(
    "own_process", [False, pytest.param(True, marks=pytest.mark.slow, id="own process")]
)
def test_rows_are_made_once_and_failures_are_told(folder, capsys, own_process):
    cells = [Toy("a"), Toy("bad"), Toy("abc")]
    for _ in range(2):
        found = rows.collect("toy", cells, double, own_process=own_process)
        assert found == {Toy("a"): {"value": 2}, Toy("abc"): {"value": 6}}
    path = folder / "runs" / "toy.jsonl"
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "abc"]
    assert "failed: bad: ArithmeticError" in capsys.readouterr().out
    with path.open("a") as file:
        file.write('{"key": "b')
    assert rows.load(path) == {"a": {"value": 2}, "abc": {"value": 6}}


@pytest.mark.parametrize("name", ["bowl5", "mixed10"])
def test_a_history_has_finished_trials_of_the_problem(name):
    problem = latency.problem_of(name)
    trials = latency.history(problem, 12)
    assert len(trials) == 12
    for trial in trials:
        trial._validate()
        assert trial.value == problem.loss(trial.params)
        assert math.isfinite(trial.value)


@pytest.mark.parametrize("name", ["bowl5", "mixed10"])
def test_the_floor_takes_time(name):
    compute = latency.floor(latency.problem_of(name), 30)
    assert compute() > 0
    assert min(compute() for _ in range(3)) < 1000


def test_latency_reports_ratios_and_targets(folder, capsys):
    command = "--dimensions 2 --trials 12 --mixed-trials --repeats 2 --samplers fisher tpe --write"
    latency.main(command.split())
    text = (folder / "results" / "latency.md").read_text()
    assert "fisher" in text
    assert "floor" in text
    assert text.split("```text\n")[1].split("\n")[0] in capsys.readouterr().out


def test_latency_verdicts():
    cell = latency.Cell("bowl5", 50, ("fisher", "gp"), 1)
    words = latency.verdicts(cell, "fisher", {"floor": 1.0, "fisher": 5.0, "gp": 60.0})
    assert words == ["12.0", "≥ 10", "pass", "5.0", "≤ 4", "fail"]
    mixed = dataclasses.replace(cell, problem="mixed10")
    words = latency.verdicts(mixed, "fisher", {"floor": 2.0, "fisher": 5.0, "gp": 60.0})
    assert words == ["12.0", "≥ 30", "fail", "2.5", "≤ 4", "pass"]


@pytest.mark.parametrize("name", ["quadratic6", "mixed6"])
def test_a_task_of_the_ascent_is_a_posterior_over_the_space(name):
    _, make = ascent.PROBLEMS[name]
    task = ascent.make_task(make(0), 20, 0)
    again = ascent.make_task(make(0), 20, 0)
    assert task.posterior.x.shape == (20, task.space.dimension)
    assert np.array_equal(task.posterior.x, again.posterior.x)
    assert np.allclose(task.space.snap(task.posterior.x), task.posterior.x)
    assert task.best == pytest.approx(task.posterior.predict(task.anchors)[0].max())


@pytest.mark.parametrize("method", ascent.CONTINUOUS)
def test_every_optimizer_only_improves_and_is_counted(method):
    task = ascent.make_task(ascent.PROBLEMS["quadratic6"][1](0), 20, 0)
    starts = ascent.pool(task, np.random.default_rng(0))[:16]
    score = log_expected_improvement(*task.posterior.predict(starts), task.best)[0]
    starts = starts[np.argsort(-score)]
    recorder = ascent.Recorder(task.posterior, task.best)
    ascent.CONTINUOUS[method](recorder, task, starts, np.random.default_rng(0))
    path = recorder.path()
    assert (np.diff(path, axis=1) >= 0).all()
    assert path[0, -1] * 16 == recorder.points
    assert path[2, -1] >= score.max() - 1e-9


@pytest.mark.parametrize("method", ascent.MIXED)
def test_optimizers_in_mixed_spaces_stay_on_the_grid(method, monkeypatch):
    monkeypatch.setitem(ascent.LIMIT, True, 60)
    task = ascent.make_task(ascent.PROBLEMS["mixed6"][1](0), 15, 0)
    asked = []

    class Watched(ascent.Recorder):
        def predict(self, points):
            asked.append(points)
            return super().predict(points)

    recorder = Watched(task.posterior, task.best)
    ascent.MIXED[method](recorder, task, task.anchors, np.random.default_rng(0))
    points = np.concatenate(asked)
    assert np.allclose(task.space.snap(points), points)
    assert recorder.path()[0, -1] > 20


def test_outcomes_of_paths_worked_by_hand():
    fast = np.array([[1.0, 2, 4], [0.1, 0.2, 0.4], [0.0, 0.5, 1.0], [1, 2, 4]])
    slow = np.array([[1.0, 8], [0.05, 0.3], [0.0, 0.9], [1, 8]])
    paths = [{"natural": fast, "slow": slow}] * 6
    own, other = (ascent.outcomes(paths, m, (2, 10)) for m in ("natural", "slow"))
    assert own.reached[:, 0] == pytest.approx([4, 0.4])
    assert other.reached[:, 0] == pytest.approx([np.inf, np.inf])
    assert own.gaps[:, 0] == pytest.approx([0.5, 0.0])
    assert other.gaps[:, 0] == pytest.approx([1.0, 0.1])
    assert other.stopped[:, 0] == pytest.approx([8, 0.3, 8])
    assert other.gap_then[0] == pytest.approx(0.1)
    words = ascent.verdicts({"natural": own, "slow": other})["slow"]
    assert [word for word, _ in words] == ["won"] * 4
    assert ascent.late(other.reached[0]) == "never"


def test_ascent_runs(folder, monkeypatch):
    monkeypatch.setattr(ascent, "REPEATS", 1)
    small = {name: (15, make) for name, (_, make) in ascent.PROBLEMS.items()}
    monkeypatch.setattr(ascent, "PROBLEMS", small)
    ascent.main(["--problems", "quadratic6", "mixed6", "--seeds", "1", "--write"])
    text = (folder / "results" / "ascent.md").read_text()
    assert "natural against lbfgsb:" in text
    assert "natural against coordinates:" in text


def test_a_long_history_is_the_same_each_time_and_gets_better():
    x, values = scale.history(0, 400)
    assert np.array_equal(x, scale.history(0, 400)[0])
    assert x.shape == (400, 10)
    assert (np.abs(x) <= 5).all()
    assert np.allclose(values, scale.rastrigin(x, *scale.landscape(0)))
    assert np.median(values[-40:]) < np.median(values[:200])
    problem = scale.problem(0)
    assert problem.loss({f"x{j}": v for j, v in enumerate(x[3])}) == pytest.approx(values[3])


def test_the_optimum_of_the_landscape_is_zero():
    rotation, centre = scale.landscape(1)
    assert rotation @ rotation.T == pytest.approx(np.eye(10))
    assert scale.rastrigin(centre[None], rotation, centre) == pytest.approx([0.0])


def test_superiority_of_a_case_worked_by_hand():
    assert scale.superiority([1.0, 2.0], [2.0, 3.0])[0] == pytest.approx(3.5 / 4)


@pytest.mark.slow
def test_scale_runs_each_sampler_in_its_own_process(folder):
    scale.main("--history 40 --tail 3 --seeds 1 --samplers fisher random --write".split())
    text = (folder / "results" / "scale.md").read_text()
    assert "40 trials of history, then 3" in text
    for row in rows.load(folder / "runs" / "scale.jsonl").values():
        assert len(row["values"]) == len(row["seconds"]) == 3
        assert 20 < row["loaded_mb"] <= row["peak_mb"]


BEST = {
    "branin": np.array([np.pi + 5, 2.275]) / 15,
    "hartmann6": np.array([0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]),
    "levy5": np.full(5, 0.55),
    "ellipsoid4": np.array([0.3, 0.6, 0.45, 0.7]),
}


@pytest.mark.parametrize("name", BEST)
def test_functions_are_at_least_zero_and_zero_at_a_minimum_that_no_fault_hides(name):
    d, f = faulty.FUNCTIONS[name]
    points = np.random.default_rng(0).random((100, d))
    assert min(f(u) for u in points) > 0
    assert f(BEST[name]) == pytest.approx(0, abs=1e-5)
    assert BEST[name][0] < faulty.LIMIT < faulty.QUARTER


@pytest.fixture
def run_study(monkeypatch):
    """Runs a study of a kind: its row, its trials, and their true values."""
    made, create = [], optuna.create_study

    def spy(**settings):
        made.append(create(**settings))
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", spy)

    def run(kind, *, seed=0, budget=30):
        row = faulty.work(faulty.Cell("random", "branin", kind, seed, budget))
        trials = made.pop().trials
        assert [list(t.params.values()) for t in trials] == row["points"]
        return row, trials, [faulty.branin(np.array(u)) for u in row["points"]]

    return run


REPLACED = {
    "1e30": 1e30,
    "largest": sys.float_info.max,
    "+inf": math.inf,
    "-inf": -math.inf,
    "-1e30": -1e30,
    "nan": None,
}


@pytest.mark.parametrize("kind", faulty.ONE_VALUE)
@pytest.mark.parametrize("seed", range(3))
def test_one_value_of_the_design_is_replaced_and_not_the_best(run_study, kind, seed):
    row, trials, true = run_study(kind, seed=seed, budget=12)
    (i,) = [i for i, t in enumerate(trials) if t.value != true[i]]
    assert i < 10
    assert i != np.argmin(true[:10])
    if kind == "outlier":
        assert trials[i].value == max(true[:10]) + 1e6 * faulty.value_range("branin")
    else:
        assert trials[i].value == REPLACED[kind]
    assert row["values"] == true[:i] + true[i + 1 :]


@pytest.mark.parametrize("kind", faulty.PENALTIES)
def test_a_penalty_is_what_trials_in_a_quarter_of_the_space_return(run_study, kind):
    row, trials, true = run_study(kind)
    inside = [t.params["x0"] > 0.75 for t in trials]
    assert 0 < sum(inside) < 15
    penalties = {t.value for t, there in zip(trials, inside, strict=True) if there}
    if kind == "quarter 1e26, noisy":
        assert len(penalties) == sum(inside)
        assert all(1e26 <= v <= 2e26 for v in penalties)
    else:
        assert penalties == {float(kind.removeprefix("quarter "))}
    elsewhere = [v for v, there in zip(true, inside, strict=True) if not there]
    assert [t.value for t, there in zip(trials, inside, strict=True) if not there] == elsewhere
    assert row["values"] == elsewhere


@pytest.mark.parametrize("kind", faulty.TOLD)
def test_a_constraint_is_told_as_its_kind_says_and_counts_where_it_is_not(run_study, kind):
    row, trials, true = run_study(kind)
    lure = faulty.value_range("branin") / 2
    for t, value in zip(trials, true, strict=True):
        c = t.params["x0"] - 0.6
        told = {
            "always": c,
            "where broken": c if c > 0 else None,
            "where broken, as 1": 1 if c > 0 else None,
            "every other trial": c if t.number in range(1, 30, 2) else None,
        }[kind]
        assert t.constraints == ({} if told is None else {"c": told})
        assert t.value == (value - lure if c > 0 else value)
    assert row["values"] == [v for t, v in zip(trials, true, strict=True) if t.params["x0"] <= 0.6]
    assert 0 < len(row["values"]) < 30


def test_once_a_trial_tells_a_constraint_and_all_trials_count(run_study):
    row, trials, true = run_study("once")
    assert [t.constraints for t in trials] == [{}, {}, {}, {"c": 1.0}, *[{}] * 26]
    assert row["values"] == true == [t.value for t in trials]


def test_nothing_is_wrong_with_a_clean_run_and_one_again_shares_its_design_only(run_study):
    (clean, trials, true), (again, _, _) = (run_study(kind, seed=3) for kind in ("clean", "again"))
    assert clean["values"] == true == [t.value for t in trials]
    assert not any(t.constraints for t in trials)
    assert clean["points"][:10] == again["points"][:10]
    assert clean["points"][10:] != again["points"][10:]


def test_differences_are_paired_by_function_and_seed():
    def row(regret):
        return {"values": [10.0 ** (regret + 1), 10.0**regret]}

    found = {
        faulty.Cell("fisher", f, kind, seed, 40): row(-level - seed)
        for f, kind, level in [("branin", "clean", 1), ("branin", "nan", 0.5), ("levy5", "nan", 0)]
        for seed in range(3)
    }
    found |= {faulty.Cell("tpe", "branin", "nan", seed, 40): row(1 - seed) for seed in (1, 2)}
    damage = robustness.differences(found, "fisher", "nan", kind="clean")
    assert list(damage) == ["branin"]
    assert damage["branin"] == pytest.approx([0.5, 0.5, 0.5])
    rival = robustness.differences(found, "fisher", "nan", sampler="tpe")
    assert rival["branin"] == pytest.approx([-1.5, -1.5])
    assert robustness.regret({"values": [1e-9]}) == -6  # solved


def test_verdicts_of_damages():
    assert robustness.verdict("nan", 0.1, 0.4).startswith("costs 1.3×")
    assert robustness.verdict("nan", -0.1, 0.2).startswith("costs nothing")
    assert robustness.verdict("nan", -0.4, 0.9).startswith("no cost shown")
    assert robustness.standing(-0.5, -0.3) == "better: at most 0.5× its regret"
    assert robustness.standing(0.3, 0.5) == "worse: at least 2× its regret"
    assert robustness.standing(-0.1, 0.3) == "no difference shown"
    low, high = robustness.interval([np.full(5, 0.2), np.full(5, 0.4)])
    assert (low, high) == pytest.approx((0.3, 0.3))


def test_points_in_a_heap_do_not_spread():
    rng = np.random.default_rng(0)
    assert robustness.spread(0.01 * rng.random((30, 2)))[1] < 0.1
    assert robustness.spread(rng.random((30, 2)))[1] > 0.4


def test_robustness_runs(folder, capsys):
    command = "--functions branin --seeds 2 --budget 13 --samplers fisher --workers 1 --write"
    robustness.main(command.split())
    assert "failed" not in capsys.readouterr().out
    text = (folder / "results" / "robustness.md").read_text()
    assert "constant objective" in text
    kinds = (*robustness.VALUE, *robustness.PENALTY, *robustness.UNTOLD)
    lines = [line.split("│") for line in text.splitlines()]
    second = [(cells[2].strip(), cells[3].strip()) for cells in lines if len(cells) > 4]
    assert [kind for kind, _ in second if kind in kinds] == list(kinds)
    told = (*faulty.TOLD, faulty.ONCE)
    rivals = [(rival, kind) for rival in ("tpe", "random") for kind in told]
    assert [pair for pair in second if pair in rivals] == rivals


def test_a_report_names_the_command_that_made_it(monkeypatch):
    assert rows.command("scale", ["--tail", "3"]) == "python -m experiments.scale --tail 3"
    monkeypatch.setattr("sys.argv", ["scale.py", "--quick", "--problems", "a b"])
    assert rows.command("scale", None) == "python -m experiments.scale --quick --problems 'a b'"
