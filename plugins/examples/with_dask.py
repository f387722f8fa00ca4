"""One study on the workers of a Dask cluster: each resumes it from a storage that all can reach."""

import json
import sys
import tempfile

import optuna
from distributed import Client, LocalCluster, get_worker

from fisherbo import FisherSampler


def objective(trial: optuna.Trial) -> float:
    """Least at x = 1, y = 0.01."""
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", 1e-4, 1.0, log=True)
    trial.set_user_attr("worker", str(get_worker().id))
    return (x - 1) ** 2 + abs(y - 0.01)


def work(storage: str, trials: int) -> None:
    """Some trials of the study; what other workers are at is expected, not repeated."""
    study = optuna.load_study(study_name="dask", storage=storage, sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=trials)


def main(trials: int) -> None:
    """The best trial as one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        study = optuna.create_study(study_name="dask", storage=storage)
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.gather([client.submit(work, storage, trials // 2, pure=False) for _ in range(2)])
        workers = {trial.user_attrs["worker"] for trial in study.trials}
        points = {tuple(trial.params.values()) for trial in study.trials}
        said = {"value": study.best_value, "params": study.best_params, "workers": len(workers)}
    print(json.dumps({**said, "points": len(points), "trials": trials // 2 * 2}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
