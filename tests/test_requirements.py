"""What is declared, pinned and installed belongs together; one version number; extras as told."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import fisherbo

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOT_FOR_USERS = {"test", "bench", "docs"}
PINS = {
    name.lower(): pin
    for name, pin in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}
DECLARED = sorted({*PROJECT["dependencies"], *(r for rows in EXTRAS.values() for r in rows)})


@pytest.mark.parametrize("text", DECLARED)
def test_what_is_declared_is_pinned_and_installed_within_its_bounds(text):
    needed = Requirement(text)
    if needed.name == "fisherbo":
        assert needed.extras <= set(EXTRAS)
        return
    found = PINS.get(needed.name.lower())
    if found:
        assert needed.specifier.contains(found, prereleases=True)
    try:
        installed = version(needed.name)
    except PackageNotFoundError:
        return  # of an extra that is not installed
    assert needed.specifier.contains(installed, prereleases=True)


@pytest.mark.parametrize("text", PROJECT["dependencies"])
def test_every_dependency_is_pinned(text):
    assert Requirement(text).name.lower() in PINS


def test_pinned_packages_run_on_the_first_release_of_the_oldest_python():
    """Debian 12 has Python 3.11.2, where a package that needs 3.11.5 cannot be installed."""
    first = PROJECT["requires-python"].removeprefix(">=") + ".0"
    told = {d.name.lower(): d.metadata.get("Requires-Python") for d in distributions()}
    needed = {name: told.get(name) for name in PINS}
    assert any(needed.values())
    assert not {n: r for n, r in needed.items() if r and not SpecifierSet(r).contains(first)}


def test_all_is_every_extra_for_users():
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(EXTRAS) - NOT_FOR_USERS - {"all"}


@pytest.mark.parametrize("page", ["README.md", "docs/installation.md"])
def test_every_extra_is_told(page):
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / page).read_text(), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([\w]+)`", row)}
    assert set(EXTRAS) - NOT_FOR_USERS <= told


def test_the_versions_of_python_that_are_declared_are_those_that_are_tested():
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    (newer,) = re.findall(
        r"^\[.*versions=\((.*)\)$", (ROOT / ".ci/versions").read_text(), re.MULTILINE
    )
    assert declared == [PROJECT["requires-python"].removeprefix(">="), *newer.split()]
    (row,) = re.findall(
        r"^\| Python \|.*", (ROOT / "docs/installation.md").read_text(), re.MULTILINE
    )
    assert all(version in row for version in declared)


def test_there_is_one_version_number():
    (cited,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "citation.md").read_text()
    assert PROJECT["version"] == fisherbo.__version__ == cited
    assert f"version = {{{cited}}}" in page
    assert (ROOT / "CHANGELOG.md").read_text().startswith(f"# Changelog\n\n## {cited}")


def test_the_version_matrix_is_that_of_the_project():
    page = (ROOT / "docs" / "installation.md").read_text()
    for text in PROJECT["dependencies"]:
        needed = Requirement(text)
        row = re.search(rf"^\| {needed.name} \|.*$", page, re.MULTILINE | re.IGNORECASE)
        if row:
            assert f" {next(iter(needed.specifier)).version} " in row[0], row[0]
            assert PINS[needed.name.lower()] in row[0], row[0]
