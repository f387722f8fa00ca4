"""What the documents show runs: the README's Python and the docstrings' examples."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import fisherbo

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MODULES = [m.name for m in pkgutil.walk_packages(fisherbo.__path__, "fisherbo.")]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_readme_snippets_run(snippet, capsys):
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_readme_opens_with_the_two_commands():
    assert README.index("make tune") < README.index("make test") < 900


def test_every_public_name_is_reached():
    for name in fisherbo.__all__:
        assert getattr(fisherbo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fisherbo.nothing
