"""The comparison of policies: its rows hold what they say, its tables count right."""

import numpy as np
import pytest

from experiments import rl
from experiments.harness import rows
from experiments.harness.statistics import mean_interval


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Rows and reports go here."""
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rows, "REPORTS", tmp_path / "results")
    monkeypatch.setattr(rl, "EPISODES", 2)
    return tmp_path


def test_every_method_has_valid_settings_on_every_environment():
    for environment in rl.STEPS:
        for method in rl.NAMES:
            cell = rl.Cell(environment, method, 0, 100)
            assert rl.settings_text(cell)
            assert method in cell.key() and environment in cell.key()
    assert rl.Cell("CartPole-v1", "TRPO", 0, 1).key() != rl.Cell("CartPole-v1", "TRPO", 1, 1).key()


def test_returns_are_read_at_the_step_that_is_asked_for():
    row = {"episodes": [[10, 1.0], [20, 3.0], [30, 5.0]], "steps": 30}
    assert rl.return_at(row, 20, 20) == 2.0
    assert rl.return_at(row, 30, 5) == 5.0
    assert rl.return_at(row, 28, 3) == 3.0  # none ended just before: the last one
    assert np.isnan(rl.return_at(row, 5, 5))


def test_a_difference_whose_interval_holds_zero_is_a_tie():
    assert rl.verdict([1.0, 2.0, 3.0]) == "better"
    assert rl.verdict([-1.0, -2.0, -3.0]) == "worse"
    assert rl.verdict([-1.0, 2.0, 3.0, -2.0]) == "tie"
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, low, high) == (2.0, pytest.approx(1.0), pytest.approx(3.0))


def test_all_of_it_runs_resumes_and_counts_violations(folder, monkeypatch, capsys):
    monkeypatch.setattr(rl, "STEPS", {"CartPole-v1": 600})
    command = ["--environments", "CartPole-v1", "--seeds", "2", "--workers", "1"]
    methods = ["--methods", "TRPO", "policy gradient"]
    rl.main([*command, *methods])
    first = (folder / "runs" / "rl.jsonl").read_text()
    assert len(first.splitlines()) == 4
    rl.main([*command, *methods, "--write", "--report"])
    assert (folder / "runs" / "rl.jsonl").read_text() == first
    assert "Monotone improvement" in (folder / "results" / "rl.md").read_text()
    assert (folder / "runs" / "rl.html").exists()
    kept = rows.load(folder / "runs" / "rl.jsonl")
    cells = [rl.Cell("CartPole-v1", "TRPO", seed, 600) for seed in (0, 1)]
    found = {cell: kept[cell.key()] for cell in cells}
    assert violations(found) == ("0", "0")
    found[cells[0]]["updates"].append([True, 1.0, -1.0, 1])
    assert violations(found) == ("1", "1")
    assert "return after 600 steps" in capsys.readouterr().out


def violations(found):
    table = rl.improvement_table(found)
    return tuple(next(iter(column.cells)) for column in table.columns[-2:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", rl.PEERS)
@pytest.mark.parametrize("environment", rl.STEPS)
def test_peers_run_with_their_settings(environment, method, monkeypatch):
    pytest.importorskip("sb3_contrib")
    monkeypatch.setattr(rl, "EPISODES", 1)
    row = rl.run(rl.Cell(environment, method, 0, 600))
    assert row["steps"] >= 600 and row["seconds"] > 0
    assert len(row["evaluation"]) == 1
    assert all(abs(value) < 2000 for _, value in row["episodes"])
