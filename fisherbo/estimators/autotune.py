"""What ``learning_rate="auto"`` and ``damping="auto"`` stand for: a short study on training rows.

Each trial trains the network for a few steps on three quarters of at most 2048 rows; its value is
the least loss of the other quarter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from fisherbo.estimators.journal import quiet
from fisherbo.estimators.layers import Layer, as_module
from fisherbo.estimators.learning import SPACES, Array, Recipe, Rows, make_optimizer
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.tuning.search_spaces import TunableOptimizer
from fisherbo.tuning.study import tune_training

MOST_ROWS = 2048
LEAST_ROWS = 60
HELD_OUT = 0.25
STEPS = 12
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

    Rows fewer than `LEAST_ROWS`, or a study in which all trials fail, leave the recipe as it is.
    """
    space = {name: kind for name, kind in SPACES[recipe.solver].items() if name in free}
    if not space or len(rows.x) < LEAST_ROWS:
        return recipe

    def build(model: Any, parameters: Any, setting: Any) -> Any:
        return make_optimizer(model, replace(recipe, **parameters), rows.likelihood)

    training, held = _split(rows, recipe.seed)
    optimizer = TunableOptimizer(recipe.solver, space, build, STEPS, needs_likelihood=False)
    with quiet():
        result = tune_training(
            lambda: as_module(layers, activation),
            (training.x, training.y),
            loss=rows.loss,
            likelihood=rows.likelihood,
            optimizer=optimizer,
            n_trials=n_trials,
            validation=(held.x, held.y),
            batch_size=recipe.batch_size,
            max_steps=STEPS,
            seed=recipe.seed,
            sampler=FisherSampler(seed=recipe.seed, n_startup_trials=DESIGN),
        )
    return replace(recipe, **result.best_params)


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
