"""HPO-B: both sources of tables, given rows, what is kept of a run, and the report."""

import json
import re

import numpy as np
import pytest
from rich.console import Console

from experiments import hpob
from experiments.harness import rows

RNG = np.random.default_rng(0)
X = RNG.random((30, 2)).round(3)
Y = np.exp(-((X - 0.5) ** 2).sum(1))
SCALED = (Y - Y.min()) / (Y.max() - Y.min())
GIVEN = [3, 1, 4, 15, 9]


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "hpob_data.npz"
    table = np.c_[X, Y]
    np.savez(path, **{"5860_7": table, "5970_8": table, "1_2": table})
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "hpob-data"
    path.mkdir()
    table = {"X": X.tolist(), "y": Y[:, None].tolist()}
    starts = {f"test{seed}": GIVEN for seed in hpob.SEEDS}
    tables = {"5860": {"7": table}, "5970": {"8": table}}
    given = {space: dict.fromkeys(tasks, starts) for space, tasks in tables.items()}
    (path / "meta-test-dataset.json").write_text(json.dumps(tables))
    (path / "bo-initializations.json").write_text(json.dumps(given))
    return path


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    start = float(SCALED[GIVEN].max())
    for name, end in (("Random", start), ("GP", 1.0), ("RGPE", 1.0)):
        trace = [start] * 3 + [end] * 98
        runs = {f"test{seed}": trace for seed in hpob.SEEDS}
        (path / f"{name}.json").write_text(json.dumps({"5860": {"7": runs}, "5970": {"8": runs}}))
    return path


def test_both_sources_have_the_same_tables(archive, folder):
    assert set(hpob.read_tasks(folder)) == {"5860_7", "5970_8"} < set(hpob.read_tasks(archive))
    for path in (archive, folder):
        task = hpob.read_task("5860_7", path)
        np.testing.assert_allclose(task.x, X)
        np.testing.assert_allclose(task.y, SCALED)
    assert hpob.read_task("5860_7", folder).given == dict.fromkeys(hpob.SEEDS, GIVEN)


def test_of_equal_configurations_the_best_counts(tmp_path):
    np.savez(tmp_path / "t.npz", **{"1_1": np.array([[0.5, 1.0], [0.2, 0.0], [0.5, 3.0]])})
    assert hpob.read_task("1_1", tmp_path / "t.npz").y.tolist() == [1.0, 0.0, 1.0]


def test_given_rows_are_those_told_or_as_good_at_best(archive, folder):
    cell = hpob.Cell("5860_7", 2, 100)
    assert hpob.given_rows(hpob.read_task("5860_7", folder), cell, None) == GIVEN
    task = hpob.read_task("5860_7", archive)
    start = float(SCALED[GIVEN].max())
    drawn = {tuple(hpob.given_rows(task, hpob.Cell("5860_7", s, 9), start)) for s in range(5)}
    assert len(drawn) == 5
    for given in drawn:
        assert len(set(given)) == 5
        assert task.y[list(given)].max() == pytest.approx(start)
    assert len(set(hpob.given_rows(task, cell, None))) == 5


def test_regret_begins_with_the_given_rows_and_is_kept_where_it_falls(archive):
    row = hpob.work(archive, {}, hpob.Cell("1_2", 0, 25))
    regret = hpob.regret_of(row, 25)
    given = hpob.given_rows(hpob.read_task("1_2", archive), hpob.Cell("1_2", 0, 25), None)
    assert regret.shape == (26,)
    assert regret[0] == pytest.approx(1 - SCALED[given].max(), rel=1e-6)
    assert (np.diff(regret) <= 0).all()
    assert regret[25] == 0  # 25 of the other 25 rows
    assert hpob.regret_of({"falls": [[0, 0.5], [2, 0.1]]}, 4).tolist() == [0.5, 0.5, 0.1, 0.1, 0.1]


def test_published_values_move_to_the_nearest_of_the_table():
    levels = np.array([0.0, 0.1, 0.4])
    values = np.array([-1.0, 0.04, 0.06, 0.2, 0.3, 9.0])
    assert hpob.nearest(levels, values).tolist() == [0.0, 0.0, 0.1, 0.1, 0.4, 0.4]


def test_the_report_has_every_method_and_the_right_means(archive, results, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rows, "REPORTS", tmp_path)
    monkeypatch.setattr(hpob, "SHIPPED", tmp_path / "traces")
    monkeypatch.setattr(hpob, "shipped", lambda name: {})
    given = ["--tables", str(archive), "--runs", str(results), "--seeds", "0", "1"]
    hpob.main([*given, "--write", "--ship"])
    text = (tmp_path / "hpob.md").read_text()
    assert "All, every method: 2 tasks, 4 runs of each method" in text
    assert "Columns as published" in text
    assert "Logarithms taken" in text
    worst = 1 - SCALED[GIVEN].max()
    assert re.search(rf"│ Random +│ +{worst:.4f} │ +{worst:.4f} │ +{worst:.4f} │", text)
    assert re.search(r"│ fisher +│ +0\.0000 │ +0\.0000 │ +0\.0000 │ +2\.00 ", text)
    assert "RGPE (transfer)" in text
    kept = hpob.gzip.decompress((tmp_path / "traces" / "hpob.jsonl.gz").read_bytes())
    assert len(kept.splitlines()) == 4
    monkeypatch.setattr(hpob, "work", pytest.fail)  # all rows are kept
    hpob.main([*given, "--kept"])


def test_without_published_runs_ours_alone_is_reported(archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(hpob, "Console", lambda **_: Console(width=120, record=True))
    hpob.main(["--tables", str(archive), "--seeds", "0", "--evaluations", "5", "--tasks", "1"])
    assert "fisher" in capsys.readouterr().out
