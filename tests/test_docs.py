"""Docstrings' examples run, every public name is reached, and the README opens as it should."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import fisherbo

README = (Path(__file__).parents[1] / "README.md").read_text()
MODULES = [m.name for m in pkgutil.walk_packages(fisherbo.__path__, "fisherbo.")]


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
