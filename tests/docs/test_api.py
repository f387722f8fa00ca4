"""Every public name is in the API reference."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import fisherbo

API = "\n".join(p.read_text() for p in (Path(__file__).parents[2] / "docs" / "api").glob("*.md"))
PACKAGES = ["botorch", "estimators", "geometry", "rl", "training", "visualization"]
NO_REFERENCE = {"__version__", "Likelihood", "CONTOUR_TRIALS"}  # a string, a type, a number


def exported(package):
    """Names that a package exports: those of ``__all__``, or imported under their own name."""
    module = import_module(f"fisherbo.{package}")
    if hasattr(module, "__all__"):
        return module.__all__
    tree = ast.parse(Path(module.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [name.name for node in imports for name in node.names if name.asname == name.name]


@pytest.mark.parametrize("name", sorted(set(fisherbo.__all__) - NO_REFERENCE))
def test_a_name_of_fisherbo_is_told(name):
    assert f":: fisherbo.{name}\n" in API


@pytest.mark.parametrize("package", PACKAGES)
def test_the_names_of_a_package_are_told(package):
    names = set(exported(package)) - NO_REFERENCE
    assert names
    told = {line.rsplit(".", 1)[-1] for line in API.splitlines() if line.startswith(".. auto")}
    assert names <= told, sorted(names - told)
