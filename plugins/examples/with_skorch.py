"""A skorch network in a scikit-learn pipeline, tuned by FisherSampler through cross-validation."""

import json
import sys

import numpy as np
import optuna
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from fisherbo import FisherSampler


def objective(trial: optuna.Trial) -> float:
    """Accuracy of three folds."""
    torch.manual_seed(0)
    width = trial.suggest_int("width", 2, 32, log=True)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3)),
        criterion=nn.CrossEntropyLoss,
        lr=trial.suggest_float("lr", 1e-3, 1.0, log=True),
        optimizer__momentum=trial.suggest_float("momentum", 0.0, 0.95),
        max_epochs=5,
        train_split=None,
        verbose=0,
    )
    x, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), net)
    return float(cross_val_score(model, x.astype(np.float32), y, cv=3).mean())


def main(trials: int) -> None:
    """The best trial as one line of JSON."""
    study = optuna.create_study(direction="maximize", sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=trials)
    first = study.trials[0].value
    print(json.dumps({"score": study.best_value, "first": first, "params": study.best_params}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
