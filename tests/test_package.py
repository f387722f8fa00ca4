"""What ``import fisherbo`` gives, and when it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fisherbo


@pytest.mark.parametrize("name", fisherbo.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(fisherbo, name) is not None
    assert name in dir(fisherbo)


@pytest.mark.parametrize("name", ["geometry", "rl", "training", "tuning", "visualization"])
def test_packages_need_no_import_of_their_own(name: str) -> None:
    code = f"import fisherbo; print(fisherbo.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"fisherbo.{name}"
    assert name in dir(fisherbo)


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import sys, fisherbo; print(sorted({'torch', 'optuna', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FisherSampler2'"):
        fisherbo.FisherSampler2  # noqa: B018
