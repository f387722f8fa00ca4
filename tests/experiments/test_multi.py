"""The suite of several objectives: its problems against their known fronts, and its mechanics."""

import importlib.util
from itertools import combinations

import numpy as np
import optuna
import pytest

from experiments import multi
from experiments.harness import rows
from experiments.harness.problems import Problem
from experiments.harness.traces import Run

pytestmark = pytest.mark.filterwarnings("ignore")


def needs(module):
    absent = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(absent, reason=f"{module} is in the bench extra")


def volume_by_inclusion_and_exclusion(points):
    """Hypervolume of points (n, m) to be minimised, with the reference point 1."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in combinations(np.clip(points, None, 1.0), size):
            total -= (-1) ** size * float(np.prod(1 - np.max(chosen, 0)))
    return total


def toy(ideal=(0.0, 0.0, 0.0), reference=(1.0, 1.0, 1.0)):
    space = {n: optuna.distributions.FloatDistribution(0, 1) for n in "ab"}

    def objectives(params):
        a, b = params["a"], params["b"]
        return np.array([a, b, 1 - a * b])

    return multi.task_of(
        lambda loss: Problem("toy", space, loss), objectives, np.array(ideal), np.array(reference)
    )


@needs("moocore")
@pytest.mark.parametrize("m", [2, 3])
def test_the_missing_hypervolume_equals_inclusion_and_exclusion(m):
    rng = np.random.default_rng(m)
    ideal, width = np.arange(m, dtype=float), np.arange(1.0, m + 1)
    task = multi.Task(toy().problem, toy().objectives, ideal, ideal + width)
    for _ in range(5):
        points = rng.random((7, m)) * 1.3  # some are worse than the reference point
        expected = 1 - volume_by_inclusion_and_exclusion(points)
        assert task.missing(ideal + width * points) == pytest.approx(expected)
    assert task.missing(ideal[None] + 2 * width) == 1.0
    assert task.missing(ideal[None]) == 0.0


def optimum(name, t, u):
    """A Pareto-optimal point of DTLZ or WFG (Deb et al. 2005; Huband et al. 2006), in [0, 1]."""
    if name == "dtlz7" or name == "dtlz6":
        return [t, u, 0, 0, 0, 0]
    if name.startswith("dtlz"):
        return [t, u, 0.5, 0.5, 0.5, 0.5]
    return [t, t, u, u, 0.35, 0.35, 0.35, 0.35]


SURFACE = {  # of the front, 0 on it
    "dtlz1": lambda f: f.sum(1) - 0.5,
    "dtlz2": lambda f: (f**2).sum(1) - 1,
    "dtlz3": lambda f: (f**2).sum(1) - 1,
    "dtlz4": lambda f: (f**2).sum(1) - 1,
    "dtlz5": lambda f: np.abs(f[:, 0] - f[:, 1]) + np.abs((f**2).sum(1) - 1),
    "dtlz6": lambda f: np.abs(f[:, 0] - f[:, 1]) + np.abs((f**2).sum(1) - 1),
    "wfg4": lambda f: ((f / [2, 4, 6]) ** 2).sum(1) - 1,
    "wfg5": lambda f: ((f / [2, 4, 6]) ** 2).sum(1) - 1,
    "wfg6": lambda f: ((f / [2, 4, 6]) ** 2).sum(1) - 1,
    "wfg7": lambda f: ((f / [2, 4, 6]) ** 2).sum(1) - 1,
}
SYNTHETIC = (*multi.DEVELOPMENT["synthetic"], *multi.FINAL["synthetic"])


@needs("pymoo")
@pytest.mark.parametrize("name", SURFACE)
def test_optimal_points_are_on_the_published_front(name):
    task, grid = multi.task(name), np.linspace(0, 1, 7)
    points = [optimum(name, t, u) for t in grid for u in grid]
    found = np.array([task.objectives(task.problem.at(np.array(p))) for p in points])
    assert SURFACE[name](found) == pytest.approx(np.zeros(len(found)), abs=1e-6)
    if name in ("wfg5", "wfg6"):  # their corners are where parameters of a group differ
        return
    assert found.min(0) == pytest.approx(task.ideal, abs=0.05 * found.max())
    assert found.max(0) == pytest.approx(multi.bounds(name)[1], rel=0.05)


@needs("pymoo")
@pytest.mark.parametrize("name", SYNTHETIC)
def test_no_point_is_better_than_the_ideal(name):
    task = multi.task(name)
    points = np.random.default_rng(1).random((200, len(task.problem.space)))
    found = np.array([task.objectives(task.problem.at(p)) for p in points])
    assert (found >= task.ideal - 1e-9).all()
    assert (task.reference >= multi.bounds(name)[1]).all()
    assert 0 <= task.missing(found) <= task.missing(found[:20]) <= 1


@needs("pymoo")
def test_the_nadir_of_the_disconnected_front():
    """DTLZ 7: the worst f_1 on the front is .8594, and f_3 is best there (Deb et al. 2005)."""
    ideal, nadir = multi.bounds("dtlz7")
    assert nadir == pytest.approx([0.85940, 0.85940, 6.0], abs=1e-4)
    assert ideal == pytest.approx([0, 0, 2.61401], abs=1e-4)
    task = multi.task("dtlz7")
    corner = task.objectives({f"x{j}": nadir[j] if j < 2 else 0.0 for j in range(6)})
    assert corner == pytest.approx([nadir[0], nadir[1], ideal[2]], abs=1e-4)


@needs("cocoex")
@pytest.mark.parametrize("name", ["biobj_f03_i01_d05", "biobj_f31_i01_d10"])
def test_a_pair_of_coco_is_the_pair_of_its_functions_less_their_optima(name):
    import cocoex

    task = multi.task(name)
    function, dimension = int(name[7:9]), int(name[-2:])
    coco = cocoex.Suite(
        "bbob-biobj", "instances: 1", f"function_indices: {function} dimensions: {dimension}"
    )[0]
    points = np.random.default_rng(0).uniform(-5, 5, (5, dimension))
    raw = np.array([coco(x) for x in points])
    ours = np.array(
        [task.objectives(dict(zip(task.problem.space, x, strict=True))) for x in points]
    )
    assert (ours > 0).all()
    assert np.ptp(raw - ours, axis=0) == pytest.approx([0, 0], abs=1e-6 * np.abs(raw).max())
    nadir = np.array(coco.largest_fvalues_of_interest) - (raw - ours)[0]
    assert task.reference == pytest.approx(nadir)


def test_development_and_final_problems_are_disjoint():
    for kind in multi.FAMILIES:
        mine, theirs = multi.DEVELOPMENT[kind], multi.FINAL[kind]
        assert set(mine).isdisjoint(theirs) and len(set(mine)) == len(mine)
        assert all(multi.family(name) == kind for name in (*mine, *theirs))
    functions = {name[:9] for name in multi.DEVELOPMENT["biobj"]}
    assert functions.isdisjoint(name[:9] for name in multi.FINAL["biobj"])


@needs("moocore")
@pytest.mark.parametrize("sampler", ["nsgaii", "random", "fisher"])
def test_a_trace_is_what_is_missing_so_far_and_starts_alike_for_all(sampler):
    task = toy()
    run = Run(sampler, "toy", 3, 12)
    trace = multi.optimize(run, task, multi.sampler_of(sampler, 3))
    assert len(trace.values) == 12 and (np.diff(trace.values) <= 1e-12).all()
    design = np.array([task.objectives(params) for params in task.problem.design(3)])
    expected = [task.missing(design[: n + 1]) for n in range(len(design))]
    assert trace.values[: len(design)] == pytest.approx(expected)
    assert task.problem.loss(task.problem.design(3)[0]) == pytest.approx(expected[0])


@needs("moocore")
@needs("pymoo")
def test_the_command_runs_and_writes_and_makes_nothing_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rows, "REPORTS", tmp_path / "results")
    asked = ["--quick", "--families", "synthetic", "--workers", "1", "--problems", "dtlz2"]
    asked += ["--samplers", "fisher", "random", "nsgaii", "--write"]
    monkeypatch.setattr(multi, "MARKS", (11, 12))
    monkeypatch.setattr(multi, "BUDGET", 12)
    for _ in range(2):
        multi.main(asked)
    assert len((tmp_path / "runs" / "multi.jsonl").read_text().splitlines()) == 3
    text = (tmp_path / "results" / "multi.md").read_text()
    assert "nsgaii" in text and "python -m experiments.multi --quick" in text
    assert "Three objectives, DTLZ and WFG" in capsys.readouterr().out
