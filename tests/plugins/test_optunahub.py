"""The OptunaHub package: the registry's layout, loaded by its loader, and its own tests run."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import optunahub
import pytest
from PIL import Image

from fisherbo import FisherSampler

REGISTRY = Path(__file__).parents[2] / "plugins" / "optunahub"
PACKAGE = REGISTRY / "package" / "samplers" / "fisherbo"


def load():
    return optunahub.load_local_module("samplers/fisherbo", registry_root=str(REGISTRY / "package"))


def test_it_has_the_registrys_layout():
    for name in ("README.md", "LICENSE", "__init__.py", "example.py", "requirements.txt", "tests"):
        assert (PACKAGE / name).exists(), name
    front, _, text = (PACKAGE / "README.md").read_text().removeprefix("---\n").partition("---\n")
    keys = [line.partition(":")[0] for line in front.splitlines()]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert "license: MIT License" in front
    for section in ("Abstract", "APIs", "Installation", "Example", "Others"):
        assert f"\n## {section}\n" in text


def test_the_page_tells_every_argument_of_the_sampler():
    text = (PACKAGE / "README.md").read_text()
    parameters = inspect.signature(FisherSampler).parameters.values()
    public = [p for p in parameters if not p.name.startswith("_")]
    arguments = ", ".join(f"{p.name}={p.default!r}" for p in public)
    assert f"`FisherSampler(*, {arguments})`" in text
    for parameter in public:
        assert f"\n  - `{parameter.name}`: " in text


def test_the_page_shows_only_pictures_that_are_there():
    shown = re.findall(r"!\[.+?\]\((.+?)\)", (PACKAGE / "README.md").read_text())
    assert shown
    for path in shown:
        assert (PACKAGE / path).exists()


@pytest.mark.parametrize("name", ["regret.png", "thumbnail.png"])  # the second is for the list
def test_a_picture_has_its_title_and_the_names_of_its_axes(name):
    with Image.open(PACKAGE / "images" / name) as picture:
        ink = np.asarray(picture.convert("L")) < 200
    assert ink.shape[1] > 800
    part = len(ink) // 12
    assert ink[:part].any()  # the title
    assert ink[-part:].any()  # "evaluations"
    assert not ink[:, :2].any()
    assert not ink[:, -2:].any()  # the samplers' names end before the edge


def test_the_loaded_sampler_is_ours_and_optimizes():
    sampler = load().FisherSampler(seed=0)
    assert isinstance(sampler, FisherSampler)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: (t.suggest_float("x", -5, 5) - 1) ** 2, n_trials=20)
    assert study.best_value < 1e-2


def test_the_readmes_example_runs(monkeypatch):
    monkeypatch.setattr(optunahub, "load_module", lambda package: load())
    text = (PACKAGE / "README.md").read_text()
    names: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert len(names["study"].trials) == 40
    assert names["study"].best_value < 0.01


@pytest.mark.slow
def test_the_packages_own_tests_pass():
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            "--rootdir",
            ".",
            str(PACKAGE / "tests"),
        ],
        cwd=REGISTRY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-2000:]
