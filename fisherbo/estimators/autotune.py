"""The study that ``learning_rate="auto"`` and ``damping="auto"`` may stand for.

Each trial trains the network for the first round on three quarters of at most 2048 rows; its value
is the loss of the other quarter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import torch
from sklearn.model_selection import train_test_split

from fisherbo.errors import DivergedError
from fisherbo.estimators.course import FIRST_STEPS, Course, even_size
from fisherbo.estimators.journal import quiet
from fisherbo.estimators.layers import Layer, as_module
from fisherbo.estimators.learning import SPACES, Array, Recipe, Rows, make_optimizer
from fisherbo.sampler.sampler import FisherSampler

MOST_ROWS = 2048
LEAST_ROWS = 60
HELD_OUT = 0.25
DESIGN = 3  # trials before the model


def defaults(solver: str) -> dict[str, float]:
    """The middle of the solver's space, whose axes are logarithmic."""
    return {name: math.sqrt(kind.low * kind.high) for name, kind in SPACES[solver].items()}


def tuned(
    rows: Rows,
    layers: Sequence[Layer],
    activation: str,
    recipe: Recipe,
    free: Sequence[str],
    n_trials: int,
) -> Recipe:
    """The recipe with the best values found for the settings named by `free`.

    No trials, rows fewer than `LEAST_ROWS`, or a study of failed trials leave the recipe as it is.
    """
    space = {name: kind for name, kind in SPACES[recipe.solver].items() if name in free}
    if not space or not n_trials or len(rows.x) < LEAST_ROWS:
        return recipe
    training, held = _split(rows, recipe.seed)
    every = math.ceil(len(training.x) / even_size(len(training.x), recipe.batch_size))
    short = replace(recipe, max_iter=math.ceil(FIRST_STEPS / every))

    def held_out_loss(trial: optuna.Trial) -> float:
        values: dict[str, Any] = {
            name: trial.suggest_float(name, kind.low, kind.high, log=kind.log)
            for name, kind in space.items()
        }
        tried = replace(short, **values)
        model = as_module(layers, activation)
        try:
            Course(training, tried).run(
                model, make_optimizer(model, tried, rows.likelihood), recipe.seed
            )
        except DivergedError as error:
            raise optuna.TrialPruned from error
        with torch.no_grad():
            return float(rows.loss(model(held.x), held.y))

    with quiet():
        study = optuna.create_study(
            sampler=FisherSampler(seed=recipe.seed, n_startup_trials=DESIGN)
        )
        study.optimize(held_out_loss, n_trials)
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return replace(recipe, **study.best_params) if done else recipe


def _split(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Training and held-out rows, by class where every class has enough rows."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(rows.x))[:MOST_ROWS]
    classes = _classes(rows)
    stratify = None
    if classes is not None and np.bincount(classes[chosen])[np.unique(classes[chosen])].min() > 1:
        stratify = classes[chosen]
    held_size = max(int(HELD_OUT * len(chosen)), 0 if stratify is None else len(set(stratify)))
    training, held = train_test_split(
        chosen, test_size=held_size, random_state=seed, stratify=stratify
    )
    return rows.take(training), rows.take(held)


def _classes(rows: Rows) -> Array | None:
    if rows.likelihood != "categorical":
        return None
    column = rows.y[:, 0] if rows.weighted else rows.y
    return column.numpy().astype(np.int64)
