"""experiments.botorch: what it measures and how it compares."""

import numpy as np
import pytest
from rich.console import Console

from experiments import botorch
from experiments.botorch import Cell, Comparison, balance, comparisons, every_cell, work


def test_problems_are_at_least_thirty_and_differ():
    cells = every_cell(quick=False, seeds=2, first=0)
    assert len({cell.problem for cell in cells}) >= 30
    assert len({cell.key() for cell in cells}) == len(cells)


def test_differences_within_the_tie_are_none():
    theirs = np.array([[1.0, 9, 90, 2.0], [-50.0, 9, 90, 2.0], [1.0, 9, 90, 4.0]])
    ours = theirs + np.array([[5e-7, 0, 0, -1], [-2e-5, 0, 0, -1], [0.1, 0, 0, -1]])
    c = Comparison(theirs, ours)
    assert c.gain == pytest.approx([0, 0, 0.1])
    assert balance(c.gain) == "1/2/0"
    assert c.ratio == pytest.approx([1, 1, 0.5])


def test_a_cell_measures_both_from_the_same_starts_and_is_reported(monkeypatch):
    monkeypatch.setattr(botorch, "RAW_SAMPLES", 64)
    monkeypatch.setattr(botorch, "RESTARTS", 4)
    cell = Cell("Branin", 2, "LogEI", 1, 100)
    row = work(cell)
    for _, calls, evaluations, seconds in row.values():
        assert calls >= 3
        assert evaluations >= 64 + 4
        assert seconds > 0
    assert row["ours"][0] == pytest.approx(row["theirs"][0], abs=0.05)
    console = Console(width=180, record=True, file=open("/dev/null", "w"))
    botorch.report(comparisons({cell: row}), console)
    text = console.export_text()
    assert "Branin2 LogEI q=1" in text
    assert "q = 1: 1. Median difference" in text
