"""A Ray Tune experiment of two workers on this machine; the best trial as one line of JSON."""

import json
import sys
import tempfile

import ray
from fisherbo_ray import fisher_search
from ray import tune


def train(config: dict) -> None:
    """Report a function that is least at x = 1, depth = 3."""
    loss = (config["x"] - 1) ** 2 + (config["model"]["depth"] - 3) ** 2
    tune.report({"loss": loss})


def main(trials: int) -> None:
    """Run the experiment."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {"x": tune.uniform(-5, 5), "model": {"depth": tune.randint(1, 9)}}
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            train,
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=fisher_search("loss", "min", seed=0, n_startup_trials=4),
                num_samples=trials,
                reuse_actors=True,  # a worker starts once, not for every trial
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    best = results.get_best_result("loss", "min")
    ray.shutdown()
    said = {"loss": best.metrics["loss"], "config": best.config, "trials": len(results)}
    print(json.dumps({**said, "errors": results.num_errors}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
