"""The examples, each run for real in a process of its own, where its host installs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing import event_accumulator

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "plugins" / "examples"

# curvlinops, a test oracle, brings a torchvision that does not load beside PyPI's torch for CPUs;
# Lightning's torchmetrics imports it wherever it is installed
WITHOUT_TORCHVISION = """
import importlib.metadata, runpy, sys
known = importlib.metadata.distribution
def distribution(name):
    if name == "torchvision":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.distribution = distribution
sys.modules["torchvision"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(name, trials, folder, *before):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    made = subprocess.run(
        [sys.executable, *before, str(EXAMPLES / f"{name}.py"), str(trials)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout.splitlines()[-1])


@pytest.mark.slow
def test_kfac_trains_in_lightning_and_is_tuned(tmp_path):
    said = run("with_lightning", 6, tmp_path, "-c", WITHOUT_TORCHVISION)
    assert said["loss"] < said["first"]
    assert said["loss"] < 0.5


@pytest.mark.slow
def test_a_skorch_network_is_tuned(tmp_path):
    said = run("with_skorch", 12, tmp_path)
    assert said["score"] > 0.9
    assert said["score"] > said["first"]


@pytest.mark.slow
def test_workers_of_a_dask_cluster_share_a_study(tmp_path):
    said = run("with_dask", 24, tmp_path)
    assert said["workers"] == 2
    assert said["points"] == said["trials"] == 24
    assert said["value"] < 0.1


@pytest.mark.slow
def test_kfac_is_logged_to_tensorboard(tmp_path):
    said = run("with_tensorboard", 40, tmp_path)
    assert said["steps"] == 40
    assert said["loss"] < 0.5 < said["first"]
    (log,) = (tmp_path / "runs" / "tensorboard").glob("events.out.tfevents.*")
    events = event_accumulator.EventAccumulator(str(log)).Reload()
    assert {"loss", "damping", "kl"} <= set(events.Tags()["scalars"])


def test_every_example_is_listed():
    told = set(re.findall(r"^\| `(\w+\.py)`", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert told == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="mlflow 3 needs pyarrow < 26, the constraints have 26.0.1; pip then takes mlflow 1.27",
)
def test_every_trial_is_a_run_of_mlflow(tmp_path):
    said = run("with_mlflow", 15, tmp_path)
    assert said["runs"] == 15
    assert said["same"]
    assert said["value"] < 0.1
