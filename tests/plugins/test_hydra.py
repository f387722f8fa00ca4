"""A real Hydra multirun, in a process of its own, with the sampler found as a plugin."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from fisherbo import FisherSampler

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins" / "hydra"


def run(folder, *arguments):
    path = os.pathsep.join([str(ROOT), str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(PLUGIN / "example" / "app.py"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_multirun_is_optimized_by_our_sampler(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    made = run(
        tmp_path,
        "--multirun",
        "x=interval(-5,5)",
        "lr=tag(log,interval(1e-4,1))",
        "hydra.sweeper.n_trials=14",
        f"hydra.sweeper.storage={storage}",
        "hydra.sweep.dir=out",
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert "Sampler: FisherSampler" in made.stdout
    found = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    assert found["best_value"] < 0.1
    study = optuna.load_study(study_name="example", storage=storage)
    assert len(study.trials) == 14
    assert study.best_params == found["best_params"]
    expected = FisherSampler(seed=0, n_startup_trials=5)  # its first points depend on the seed only
    again = optuna.create_study(sampler=expected)
    first = again.ask(study.trials[0].distributions)
    assert first.params == study.trials[0].params


@pytest.mark.slow
def test_the_command_line_configures_the_sampler(tmp_path):
    made = run(tmp_path, "--cfg", "hydra", "hydra.sweeper.sampler.n_startup_trials=7")
    assert made.returncode == 0, made.stderr[-2000:]
    sampler = yaml.safe_load(made.stdout)["hydra"]["sweeper"]["sampler"]
    assert sampler["_target_"] == "fisherbo.FisherSampler"
    assert (sampler["seed"], sampler["n_startup_trials"]) == (0, 7)


@pytest.mark.slow
def test_beliefs_and_orders_come_from_the_configuration(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    made = run(
        tmp_path,
        "--multirun",
        "x=interval(-5,5)",
        "lr=choice(0.1,0.01,0.001)",
        "hydra.sweeper.n_trials=8",
        f"hydra.sweeper.storage={storage}",
        "hydra.sweep.dir=out",
        "+hydra.sweeper.sampler.priors={x:{_target_:fisherbo.prior.Normal,mean:1.5,sd:0.5}}",
        "+hydra.sweeper.sampler.categories="
        "{lr:{_target_:fisherbo.ordered,_args_:[0.001,0.01,0.1]}}",
    )
    assert made.returncode == 0, made.stderr[-2000:]
    study = optuna.load_study(study_name="example", storage=storage)
    assert len(study.trials) == 8
    assert study.trials[0].params["x"] == 1.5  # the belief's mode
