"""The comparison with and without rotation: pairs, losses, nothing twice."""

import importlib.util

import pytest

from experiments import rotation
from experiments.harness import rows
from experiments.rotation import Cell, line

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("cocoex") is None, reason="cocoex is in the bench extra"
)


@needs_coco
def test_the_command_keeps_its_rows_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    for _ in range(2):
        rotation.main(["--quick", "--budget", "11", "--seeds", "1"])
    assert len((tmp_path / "rotation.jsonl").read_text().splitlines()) == 8
    assert "ill-conditioned 5-D, all" in capsys.readouterr().out


def test_only_development_instances_are_run():
    for group, (problems, seeds) in rotation.GROUPS.items():
        if group == "tables":
            assert min(seeds) >= 100
        else:
            assert {name.split("_i")[1][:2] for name in problems} == {"03", "04"}


def test_a_line_counts_runs_that_are_better_and_worse():
    cells = [Cell("tables", f"t{i}", 100, False, 2) for i in range(4)]
    ends = [(0.5, 0.1), (0.5, 0.1), (0.5, 0.9), (0.5, 0.5)]
    found = {}
    for cell, (off, on) in zip(cells, ends, strict=True):
        found[cell] = {"best": [0.9, off], "cpu": 1.0}
        found[Cell("tables", cell.problem, 100, True, 2)] = {"best": [0.9, on], "cpu": 1.5}
    row = line(cells, found, [2])
    assert row[:5] == ["4", "0.500, 0.400", "2", "1", "1"]
    assert row[-1] == "1.50"
