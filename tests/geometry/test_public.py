from __future__ import annotations

import subprocess
import sys

import pytest

import fisherbo.geometry as geometry


def test_every_public_name_is_found_and_listed() -> None:
    for name in geometry.__all__:
        assert getattr(geometry, name).__name__ == name
    assert sorted(geometry.__all__) == sorted(geometry._HOME)
    assert set(geometry.__all__) <= set(dir(geometry))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        geometry.nothing  # noqa: B018


def test_numpy_modules_do_not_import_torch() -> None:
    code = (
        "import sys, fisherbo.geometry.lapack, fisherbo.geometry.lowrank; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
