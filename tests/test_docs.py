"""Docstrings' examples run, every public name is reached, and the README opens as it should."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import fisherbo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MODULES = [m.name for m in pkgutil.walk_packages(fisherbo.__path__, "fisherbo.")]


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_readme_is_short_and_keeps_the_two_commands():
    assert len(README.splitlines()) <= 130
    _, _, checkout = README.partition("## Try it from a checkout")
    assert 0 < checkout.index("make tune") < checkout.index("make test")


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\(([^)\s]+)\)", README):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            assert (ROOT / path).exists(), link
            heads = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert not anchor or anchor in slugs, link


def test_every_public_name_is_reached():
    for name in fisherbo.__all__:
        assert getattr(fisherbo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fisherbo.nothing
