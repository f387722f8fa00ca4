"""The statements of information geometry name functions and tests that are there."""

import re
from pathlib import Path

from fisherbo import geometry

ROOT = Path(__file__).parents[2]
ROWS = [
    line.split(" | ")[1:]
    for line in (ROOT / "docs" / "how" / "geometry.md").read_text().splitlines()
    if line.startswith("| ") and "test_" in line
]


def test_every_statement_has_its_tests():
    assert len(ROWS) > 12
    for _, tests in ROWS:
        files = re.split(r"`(test_\w+)`: ", tests)[1:]
        assert files
        for file, listed in zip(files[::2], files[1::2], strict=True):
            source = (ROOT / "tests" / "geometry" / f"{file}.py").read_text()
            for test in re.findall(r"`(test_\w+)`", listed):
                assert f"def {test}(" in source, test


def test_every_function_of_a_statement_is_public():
    for functions, _ in ROWS:
        assert set(re.findall(r"`(\w+)`", functions)) <= set(geometry.__all__)
