"""Command lines of the experiments, and the options that they share."""

import importlib
import re
from dataclasses import asdict
from pathlib import Path

import pytest

import experiments
from experiments import summary
from experiments.harness import rows
from experiments.harness.comparison import Suite
from experiments.harness.traces import Run, Trace
from experiments.options import SHARED, command_line

FOLDER = Path(experiments.__file__).parent
MAKES_ONE = re.compile(r"^    (?:\w+ = (?:command_line|parser)|command)\(", re.MULTILINE)
COMMANDS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if MAKES_ONE.search(path.read_text()) and "__main__" in path.read_text()
)


def test_a_command_line_has_the_shared_options_it_names_and_no_others():
    parser = command_line("toy", "What it does.", "seeds again workers", quick="two seeds")
    given = vars(parser.parse_args(["--seeds", "3", "4", "--again", "--workers", "7", "--quick"]))
    assert given == {"seeds": [3, 4], "again": True, "workers": 7, "quick": True}
    said = parser.format_help()
    assert said.startswith("usage: python -m experiments.toy")
    assert "What it does." in said and "two seeds" in said and SHARED["again"]["help"] in said
    with pytest.raises(SystemExit):
        command_line("toy", None, "again").parse_args(["--quick"])
    with pytest.raises(KeyError, match="agian"):
        command_line("toy", None, "agian")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_in_the_docstring_have_options_that_exist(name, capsys):
    module = importlib.import_module(f"experiments.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m experiments.{name}")
    known = set(re.findall(r"^  (--[\w-]+)", said, re.MULTILINE))
    shown = re.findall(rf"python -m experiments\.{name}\b(.*)", module.__doc__)
    assert {option for line in shown for option in re.findall(r"--[\w-]+", line)} <= known


def test_the_comparison_is_left_as_it_is_without_own_traces(tmp_path, monkeypatch, capsys):
    result = tmp_path / "comparison.md"
    result.write_text("as it was")
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    monkeypatch.setattr(summary, "RESULT", result)
    toys = Suite("toy", lambda run: run, [("p", 0)], [], [])
    monkeypatch.setattr(summary, "SUITES", {"toys": toys})
    for sampler in ("tpe", "random"):
        trace = Trace(Run(sampler, "p", 0, 2), (0.9, 0.6), 0.1)
        rows.append(tmp_path / "toy.jsonl", trace.run.key(), asdict(trace))
    summary.main(["--source", "none-such"])
    assert result.read_text() == "as it was"
    assert "no traces of fisher at source none-such on toys" in " ".join(
        capsys.readouterr().out.split()
    )
