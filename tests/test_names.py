"""The layout: each class name has one meaning, and Optuna's private names are in one file."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import fisherbo

ROOT = Path(fisherbo.__file__).parent
KNOWN = {"Moments", "Pass", "Rows", "Run", "TrainingResult"}
"""Names that training and rl still share with each other, or with other packages."""

PRIVATE = {
    "_storage", "_study_id", "_trial_id", "_get_trials", "_get_stale_trial_ids", "_heartbeat",
    "_base_sampler", "_fixed_params", "_contains", "_cached_frozen_trial",
}  # fmt: skip
"""Attributes and modules of Optuna."""


def parsed(root):
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in root.rglob("*.py")}


def classes_of_several_meanings(trees):
    homes = defaultdict(set)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")].add((str(path), node.lineno))
    return {name: found for name, found in homes.items() if len(found) > 1}


def private_names(tree):
    """Private names that a module takes from other objects, or from Optuna's modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE:
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield node.attr
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            yield from (part for part in node.module.split(".") if part.startswith("_"))
            yield from (n.name for n in node.names if n.name.startswith("_"))


def test_each_class_name_has_one_meaning():
    assert set(classes_of_several_meanings(parsed(ROOT))) <= KNOWN


def test_private_names_of_optuna_are_in_one_file():
    where = {p.relative_to(ROOT).as_posix() for p, tree in parsed(ROOT).items()
             if any(private_names(tree))}  # fmt: skip
    assert where == {"sampler/optuna_private.py"}


@pytest.mark.parametrize("package", ["sampler", "gp", "acquisition"])
def test_files_are_of_one_idea(package):
    sizes = {p.name: len(p.read_text("utf-8").splitlines()) for p in (ROOT / package).glob("*.py")}
    assert {name: size for name, size in sizes.items() if size > 350} == {}


def test_a_planted_duplicate_and_a_planted_private_name_are_found():
    trees = {
        Path("a.py"): ast.parse("class _Task: ..."),
        Path("b.py"): ast.parse("class Task: ..."),
    }
    assert list(classes_of_several_meanings(trees)) == ["Task"]
    assert list(private_names(ast.parse("def f(study): return study._storage"))) == ["_storage"]
    assert list(private_names(ast.parse("from optuna.storages._heartbeat import x"))) == [
        "_heartbeat"
    ]
