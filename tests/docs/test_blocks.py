"""What README and docs show is run: every block of Python; of the shell, each command is parsed.

The blocks of a page share their names, in order, as a reader would paste them; those of the README
stand alone. Shell blocks that create a study (``--create``) are run as well.
"""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fisherbo.cli import _parser, main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
SLOW = ("guides/network", "guides/policies", "guides/table", "migration")
LISTS = {"--help", "--settings"}
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OWN_PROCESS = "guides/distributed"  # a process group beside all that other tests load has hung
OTHERS = {"cd", "export", "git", "optuna", "optuna-dashboard", "pip", "torchrun"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def name(page):
    return str(page.relative_to(ROOT).with_suffix("")).removeprefix("docs/")


def run(code, page, names):
    exec(compile(code, f"{name(page)}.md", "exec"), names)


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_a_block_of_the_readme_runs_by_itself(code, capsys, here):
    run(code, README, {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[pytest.mark.slow] * (name(page) in SLOW))
        for page in PAGES
        if blocks(page, "python") and name(page) != OWN_PROCESS
    ],
)
def test_the_blocks_of_a_page_run(page, here):
    names = {"__name__": "__main__"}
    for code in blocks(page, "python"):
        run(code, page, names)


@pytest.mark.slow
def test_a_page_that_forms_a_process_group_runs_by_itself(here):
    code = "\n".join(blocks(ROOT / "docs" / f"{OWN_PROCESS}.md", "python"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    made = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr


def commands(block):
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def check(words):
    """Fail where a command, or what it calls, is not there."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "fisherbo":
        if not LISTS & set(words):
            _parser().parse_args(words[1:])
    elif words[0] == "make":
        assert set(w for w in words[1:] if "=" not in w) <= TARGETS, words
    elif words[0].startswith("python"):
        if words[1] == "-m" and words[2].startswith("experiments"):
            assert find_spec(words[2]), words
        elif words[1] != "-m":
            assert (ROOT / words[1]).exists(), words
    else:
        assert words[0] in OTHERS or (ROOT / words[0]).exists(), words


@pytest.mark.parametrize("page", [README, *PAGES], ids=name)
def test_every_command_of_the_shell_is_there(page):
    for block in blocks(page, "sh"):
        for words in commands(block):
            check(words)


STUDIES = [b for page in [README, *PAGES] for b in blocks(page, "sh") if "--create" in b]


@pytest.mark.parametrize("block", STUDIES)
def test_a_study_of_the_shell_is_made_as_printed(block, here, capsys):
    for words in commands(block):
        assert main(words[1:]) == 0, capsys.readouterr().err
    assert "trial" in capsys.readouterr().out
