"""Every result tells what it was made with."""

import io
import re

import pytest
from rich.console import Console

from experiments.harness import provenance, rows
from experiments.harness.provenance import source_digest

STAMP = re.compile(
    r"Written on \d{4}-\d\d-\d\d; source of fisherbo [0-9a-f]{12}, of the experiments "
    r"[0-9a-f]{12}; "
    r"Python 3\.\d+\.\d+, numpy .*torch .*optuna .*; .+, \d+ cores\."
)
BEFORE = re.compile(
    r"Written on \d{4}-\d\d-\d\d with commit [0-9a-f]{7,}, before results were stamped\."
)
RESULTS = sorted(p for p in rows.REPORTS.glob("*.md") if p.name != "tried.md")  # a list of notes


def test_a_written_result_is_stamped(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "REPORTS", tmp_path)
    console = Console(record=True, file=io.StringIO())
    console.print("a table")
    path = rows.write(console, "one", "One", "Made by `python -m experiments.one`")
    head, _, text = path.read_text().partition("```text")
    assert STAMP.search(head) and source_digest("") in head
    assert "a table" in text


def test_the_digest_is_of_all_source(tmp_path, monkeypatch):
    (tmp_path / "fisherbo").mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "fisherbo" / "a.py").write_text("1")
    file = tmp_path / "experiments" / "harness" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(file))
    first = source_digest("")
    (tmp_path / "fisherbo" / "a.py").write_text("2")
    assert source_digest("") != first


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_result_file_has_a_stamp(path):
    head = path.read_text().partition("```text")[0]
    assert STAMP.search(head) or BEFORE.search(head)
    assert "python -m experiments." in head


READERS = {"pages", "result_tables", "verify"}  # of results, for the pages of the documentation
SCRIPTS = sorted(p for p in rows.REPORTS.parent.glob("*.py") if p.stem not in READERS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_that_writes_a_report_stamps_it(path):
    text = path.read_text()
    if '"--write"' in text or '.md"' in text:
        assert "rows.write(" in text or "stamp()" in text


def test_the_processor_has_a_name():
    assert len(provenance.processor()) > 2
