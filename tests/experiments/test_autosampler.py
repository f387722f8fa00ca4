"""The map against AutoSampler, which the tests do not need: problems, cells and the picture."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from experiments import autosampler, heatmap, landscapes
from experiments.autosampler import DIMENSIONS, MARKS, Cell, entries, work

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", landscapes.FORMULAS)
@pytest.mark.parametrize("dimension", [1, 2, 5, 30])
def test_a_function_is_0_at_its_optimum_and_positive_elsewhere(name, dimension):
    if dimension < landscapes.FORMULAS[name].least:
        return
    rng = np.random.default_rng(dimension)
    optimum = rng.uniform(-4, 4, dimension)
    f = landscapes.landscape(name, optimum, rng)
    assert f(optimum) == pytest.approx(0, abs=1e-12)
    for scale in (1e-3, 1e-1, 10):
        nearby = optimum + scale * rng.standard_normal((50, dimension))
        assert min(f(x) for x in nearby) > 1e-12


def test_functions_are_those_of_the_formulas():
    z = np.array([1.0, -2.0, 0.5])
    f = {name: formula.value(z) for name, formula in landscapes.FORMULAS.items()}
    assert f["ellipsoid"] == pytest.approx(1 + 1e3 * 4 + 1e6 * 0.25)
    assert f["rastrigin"] == pytest.approx(1 + 4 + 0.25 + 20)  # cos 2πz = 1, 1, −1
    assert f["rosenbrock"] == pytest.approx(100 * (4 + 1) ** 2 + 1 + 100 * (1 - 1.5) ** 2 + 4)
    assert f["ridge"] == pytest.approx(1 + 100 * np.sqrt(10**0.5 * 4 + 10 * 0.25))
    assert f["powers"] == pytest.approx(np.sqrt(1 + 2**4 + 0.5**6))
    assert f["ackley"] == pytest.approx(
        20 - 20 * np.exp(-0.2 * np.sqrt(5.25 / 3)) + np.e - np.exp(1 / 3)
    )


@pytest.mark.parametrize("function", ["rosenbrock", "ellipsoid"])
def test_the_optimum_of_a_mixed_problem_can_be_reached(function):
    """By brute force over what is discrete, and the known optimum in the floats."""
    made = landscapes.problem(f"mixed/{function}/5/3")
    assert [type(d).__name__[:3] for d in made.space.values()] == [
        "Flo",
        "Flo",
        "Int",
        "Cat",
        "Flo",
    ]
    rng = np.random.default_rng([5, 3, *function.encode()])
    optima = [landscapes.mixed_axis(j, rng).optimum for j in range(5)]
    floats = {"x000": optima[0], "x001": 10 ** optima[1], "x004": optima[4]}
    least = min(
        made.loss({**floats, "x002": k, "x003": c}) for k in range(9) for c in landscapes.CHOICES
    )
    assert least == pytest.approx(0, abs=1e-9)


def test_methods_of_a_conditional_problem_have_their_own_parameters_and_optima():
    made = landscapes.problem("conditional/ackley/10/0")
    assert len(made.space) == 10
    assert isinstance(made.space["method"], CategoricalDistribution)
    rng = np.random.default_rng([10, 0, *b"ackley"])
    common = rng.uniform(-4, 4, 3)
    rng.permutation(landscapes.METHODS)
    values = []
    for method in landscapes.METHODS:
        names = [n for n in made.space if n != "method" and made.exists(n, {"method": method})]
        assert len(names) == 5  # three shared ones and two of its own
        optimum = np.append(common, rng.uniform(-4, 4, 2))
        rng.standard_normal((5, 5))  # the rotation
        values.append(made.loss({"method": method, **dict(zip(names, optimum, strict=True))}))
    least, second, third = sorted(values)
    assert least == pytest.approx(0, abs=1e-9)
    assert second > 0.1
    assert third == pytest.approx(2 * second)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_objectives_have_their_optima_apart_and_the_nadir_between_them(count):
    pytest.importorskip("moocore")
    known = landscapes.task(f"{count} objectives/{count}/5/1")
    assert known.reference.shape == (count,)
    assert (known.reference > 0).all()
    assert known.missing(known.ideal[None]) == 0.0
    assert known.missing(known.reference[None]) == 1.0


def args(**changed):
    given = {
        "quick": False,
        "dev": False,
        "rounds": 2,
        "kinds": ["continuous", "3 objectives"],
        "dimensions": None,
        "against": "auto",
        "autosampler": None,
    }
    return SimpleNamespace(**{**given, **changed})


def test_rounds_have_other_problems_and_development_has_its_own():
    final = autosampler.cells_of(args(rounds=6))
    assert {cell.sampler for cell in final} == {"fisher", "auto"}
    names = [cell.name for cell in final if cell.sampler == "fisher"]
    assert len(set(names)) == len(names)
    of_five = {n.split("/")[1] for n in names if n.startswith("continuous/") and "/5/" in n}
    assert of_five == set(landscapes.FORMULAS)
    developed = {cell.name for cell in autosampler.cells_of(args(rounds=6, dev=True))}
    assert developed.isdisjoint(names)
    assert all(cell.length == 15 for cell in autosampler.cells_of(args(quick=True)))


def test_every_row_of_lengths_is_a_row_of_the_map_and_ends_at_a_column():
    for (kind, dimension), lengths in autosampler.LENGTHS.items():
        assert dimension in DIMENSIONS[kind]
        assert set(lengths) <= set(MARKS)
        assert list(lengths) == sorted(lengths, reverse=True)


@pytest.mark.parametrize("kind", ["mixed", "conditional"])
def test_a_row_has_the_best_value_at_each_mark_and_both_begin_alike(kind, monkeypatch):
    firsts = []
    made = autosampler.first_trial

    def noted(*given):
        firsts.append(made(*given))
        return firsts[-1]

    monkeypatch.setattr(autosampler, "first_trial", noted)
    cells = [Cell(s, kind, 5, 2, 15) for s in ("random", "tpe")]
    rows = [work(cell) for cell in cells]
    assert firsts[0] == firsts[1]
    for row in rows:
        assert list(row["best"]) == ["5", "15"]
        assert row["best"]["5"] >= row["best"]["15"] >= 0
        assert 0 < row["seconds"]["5"] <= row["seconds"]["15"]
    assert rows[0]["best"] == work(cells[0])["best"]


def row(best, seconds=1.0):
    return {"best": {"5": best}, "seconds": {"5": seconds}}


def test_an_entry_counts_wins_ties_and_ratios():
    losses = [(1.0, 10.0), (2.0, 200.0), (1e-12, 1e-9), (3.0, 1.0)]
    found = {}
    for k, (ours, theirs) in enumerate(losses):
        found[Cell("fisher", "mixed", 5, k, 50)] = row(ours, 2.0)
        found[Cell("auto", "mixed", 5, k, 50)] = row(theirs, 3.0)
    found[Cell("fisher", "mixed", 5, 9, 50)] = row(1.0)  # without its pair
    (entry,) = entries(found)
    assert (entry.kind, entry.dimension, entry.trials, entry.pairs) == ("mixed", "5", 5, 4)
    assert entry.wins == pytest.approx(2.5 / 4)  # both below 1e-8 is a tie
    assert entry.ties == 0.25
    assert entry.ratio == pytest.approx(10**-0.5)  # between 1/10 and 1
    assert entry.cpu == pytest.approx(1.5)
    assert entry.verdict == "–"


def test_the_verdict_needs_enough_pairs():
    def of(count, ours, theirs):
        found = {}
        for k in range(count):
            found[Cell("fisher", "mixed", 5, k, 50)] = row(ours + 0.01 * k)
            found[Cell("auto", "mixed", 5, k, 50)] = row(theirs)
        return entries(found)[0]

    assert of(3, 1.0, 9.0).verdict == "–"
    assert of(6, 1.0, 9.0).verdict == "ahead"
    assert of(6, 9.0, 1.0).verdict == "behind"
    assert "Behind: mixed, d = 5, 5 trials: wins 0% of 6" in autosampler.summary([of(6, 9.0, 1.0)])
    assert list(autosampler.report([of(6, 1.0, 9.0)], "map").columns[-1].cells) == ["ahead"]


def test_dimensions_are_pooled_by_problem():
    found = {}
    for d in (5, 10):
        for k in range(3):
            found[Cell("fisher", "mixed", d, k, 50)] = row(1.0 + k)
            found[Cell("auto", "mixed", d, k, 50)] = row(2.0 * d + k)
    assert [e.pairs for e in entries(found)] == [3, 3]
    (pooled,) = autosampler.together(found)
    assert (pooled.dimension, pooled.pairs, pooled.wins) == ("all", 6, 1.0)
    assert pooled.p == pytest.approx(2 / 2**6)  # Wilcoxon's exact p where all signs agree


def test_autosampler_is_loaded_from_a_folder_that_is_named(tmp_path, monkeypatch):
    package = tmp_path / "auto_sampler"
    package.mkdir()
    (package / "__init__.py").write_text("from ._sampler import AutoSampler\n")
    (package / "_sampler.py").write_text(
        "import optuna\nclass AutoSampler(optuna.samplers.RandomSampler):\n    pass\n"
    )
    for place in (package, package / "_sampler.py"):
        monkeypatch.setenv(autosampler.FOLDER, str(place))
        assert isinstance(autosampler.sampler_of("auto", 0), optuna.samplers.RandomSampler)
    first = autosampler.auto_version(str(package))
    (package / "_sampler.py").write_text("# another version\n")
    autosampler.auto_version.cache_clear()
    assert autosampler.auto_version(str(package)) != first
    with pytest.raises(SystemExit, match=r"no __init__\.py"):
        autosampler.auto_file(str(tmp_path / "nowhere"))


def test_the_picture_has_a_square_for_each_cell_and_fits_a_phone():
    squares = [
        heatmap.Square("mixed, d = 5", 5, 0.5, "–", 6),
        heatmap.Square("mixed, d = 5", 50, 1.0, "ahead", 6),
        heatmap.Square("a < b", 5, 0.0, "behind", 6),
    ]
    drawn = heatmap.picture("map", squares)
    root = ElementTree.fromstring(drawn)
    assert root.get("viewBox").split()[2] == "360"
    svg = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{svg}g")) == len(squares)
    assert len(root.findall(f".//{svg}rect[@class='frame']")) == 2
    for rect in root.iter(f"{svg}rect"):
        assert float(rect.get("x")) + float(rect.get("width")) <= heatmap.WIDTH
    few = heatmap.picture("map", [heatmap.Square("mixed, d = 5", 5, 1.0, "–", 2)])
    assert ">(100)<" in few and heatmap.colour(1.0) not in few
    assert root.find(f"{svg}desc").text.endswith("a < b, 5: 0")


def luminance(colour):
    parts = [int(c, 16) / 255 for c in re.findall("..", colour.lstrip("#"))]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.75, 1])
def test_numbers_are_legible_on_every_colour(share):
    """WCAG 2's contrast of at least 4.5 : 1 with the text, #111."""
    ratio = (luminance(heatmap.colour(share)) + 0.05) / (luminance("#111111") + 0.05)
    assert ratio >= 4.5
