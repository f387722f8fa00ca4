"""The ablation: every variant changes the sampler in its own runs only; the statistics hold."""

import importlib.util
import re
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from experiments import ablation, hpo
from experiments.ablation import FULL, VARIANTS, Cell, report, scaled
from experiments.harness import comparison, rows, traces
from experiments.harness.traces import Run, Trace, load, ship
from fisherbo.acquisition import exclusion
from fisherbo.gp.kernel import Embedding
from fisherbo.sampler.options import DEFAULTS

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("cocoex") is None, reason="cocoex is in the bench extra"
)


def cell(variant, problem="mixint_f015_i03_d05", suite="mixint", budget=22):
    return Cell(suite, problem, 0, variant, budget)


@needs_coco
@pytest.mark.slow
def test_variants_differ_from_the_full_sampler_and_leave_it_as_it_was():
    before = ablation.work(cell(FULL))["best"]
    alike = {v for v in VARIANTS if ablation.work(cell(v))["best"] == before}
    assert alike <= {
        *ablation.TRAINING,
        *ablation.TUNING,
        *ablation.CONTINUOUS,
        "no-stalls",
        "no-neighbours",
        "fit-each-trial",
    }  # 12 trials are few
    assert ablation.work(cell(FULL))["best"] == before


def test_variants_of_zones_take_them_out():
    x = np.array([[0.1], [0.2], [0.9]])
    embedding = Embedding.of(np.ones(1), np.zeros(1, dtype=int))
    y = np.array([1.0, 1.0, 2.0])
    assert exclusion.exclusion_zones(x, y, embedding) is not None
    assert exclusion.exclusion_zones(x, y, embedding, plateaus=False) is None


def test_each_variant_changes_one_option_of_the_sampler():
    for options in VARIANTS.values():
        names = [field.name for field in fields(options)]
        assert sum(getattr(options, n) != getattr(DEFAULTS, n) for n in names) == 1


def test_no_experiment_patches_the_code_under_test():
    scripts = list(Path(ablation.__file__).parent.rglob("*.py"))
    assert len(scripts) > 20
    assert not [s.name for s in scripts if re.search(r"\bmock\b|\bsetattr\(", s.read_text())]


@needs_coco
def test_the_command_keeps_its_rows_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    monkeypatch.setattr(ablation, "QUICK_FUNCTIONS", (1, 8))
    for _ in range(2):
        ablation.main(["--quick", "--budget", "12", "--workers", "1", "--variants", "no-warp"])
    assert len((tmp_path / "ablation.jsonl").read_text().splitlines()) == 4
    assert "no-warp │    2" in capsys.readouterr().out


def test_losses_are_compared_on_the_runs_that_both_have():
    cells = [cell(FULL, f"hpo{i}", "tables", 2) for i in range(3)]
    found = {c: {"best": [0.9, 0.1 * i], "cpu": 1.0} for i, c in enumerate(cells)}
    found |= {
        cell("no-warp", f"hpo{i}", "tables", 2): {"best": [0.9, 0.5], "cpu": 2.0} for i in range(2)
    }
    assert scaled("tables", found)[cells[2]] == pytest.approx([0.9, 0.2])
    table = report("tables", found)
    values = [list(column.cells) for column in table.columns]
    assert values == [["no-warp"], ["2"], ["0.500 (0.050)"], ["100%"], ["0.500"], ["2.00"]]


def keep(name, *kept):
    for trace in kept:
        rows.append(rows.RUNS / f"{name}.jsonl", trace.run.key(), asdict(trace))


def test_shipped_traces_are_found_beside_those_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    mine, theirs = (Trace(Run(s, "p", 0, 2), (0.1 + 0.2, 1.0), 0.5) for s in ("fisher", "random"))
    keep("suite", mine, theirs)
    ship("suite", ["random"])
    (tmp_path / "suite.jsonl").unlink()
    assert load("suite") == {theirs.run.key(): theirs}
    keep("suite", mine)
    assert set(load("suite")) == {mine.run.key(), theirs.run.key()}
    assert np.array_equal(load("suite")[mine.run.key()].values, mine.values)


def test_own_traces_are_shipped_of_the_present_version_only(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    mine = Trace(Run("fisher", "toy", 0, 2), (1.0, 0.5), 0.1)
    rows.append(tmp_path / "toy.jsonl", "fisher@before/toy/0/2", asdict(mine))
    keep("toy", mine)
    ship("toy", ["fisher"])
    assert list(traces.shipped("toy")) == [mine.run.key()]


def test_own_traces_of_another_source_are_found_and_shipped_where_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    suite = comparison.Suite("toy", ablation.work, [], [], [])
    before, mine = (Trace(Run("fisher", "toy", 0, 2), v, 0.1) for v in ((1.0, 0.7), (1.0, 0.5)))
    theirs = Trace(Run("tpe", "toy", 0, 2), (0.9, 0.6), 0.1)
    rows.append(tmp_path / "toy.jsonl", "fisher@before/toy/0/2", asdict(before))
    keep("toy", mine, theirs)
    assert comparison.current(suite) == [mine, theirs]
    assert comparison.current(suite, "before") == [before, theirs]
    ship("toy", ["fisher"], "before")
    assert list(traces.shipped("toy")) == ["fisher@before/toy/0/2"]


def test_the_scale_of_regret_does_not_depend_on_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    best = np.array([2.0, 0.5, 0.1])
    before = {name: hpo.regret()(name, best) for name in hpo.NAMES}
    for name in hpo.NAMES:
        keep("hpo", Trace(Run("random", name, 0, 1), (-9.0,), 0.1))
    assert load("hpo").keys() > traces.shipped("hpo").keys()
    after = {name: hpo.regret()(name, best) for name in hpo.NAMES}
    assert all(np.array_equal(before[name], after[name]) for name in hpo.NAMES)
