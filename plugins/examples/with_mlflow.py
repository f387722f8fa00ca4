"""Every trial of a study as a run of MLflow, in a local store."""

import json
import sys
import tempfile
from pathlib import Path

import mlflow
import optuna

from fisherbo import FisherSampler


def objective(trial: optuna.Trial) -> float:
    """Least at x = 1, y = 0.01; parameters and value are logged."""
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", 1e-4, 1.0, log=True)
    value = (x - 1) ** 2 + abs(y - 0.01)
    with mlflow.start_run(run_name=f"trial {trial.number}") as run:
        mlflow.log_params(trial.params)
        mlflow.log_metric("value", value)
    trial.set_user_attr("mlflow_run", run.info.run_id)
    return value


def main(trials: int) -> None:
    """The best run as one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{Path(folder) / 'mlflow.db'}")
        mlflow.set_experiment("fisherbo")
        study = optuna.create_study(sampler=FisherSampler(seed=0))
        study.optimize(objective, n_trials=trials)
        runs = mlflow.search_runs(order_by=["metrics.value"], output_format="list")
        best = runs[0]
        same = best.info.run_id == study.best_trial.user_attrs["mlflow_run"]
        said = {"value": best.data.metrics["value"], "runs": len(runs), "same": same}
    print(json.dumps(said))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
