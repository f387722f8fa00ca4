"""Pruners of training runs by name.

"percentile" ends runs in the worst quarter at their step, after five complete trials, and waits for
a sixth of the steps. Replayed on 40 random K-FAC runs in 30 orders (digits), it ended none of the
runs that reach the target and saved 38 % of the steps.

"fisher" is `fisherbo.FisherPruner`, which ends more of them: in replays of 36 K-FAC runs on each of
two tables it took a third of the steps of "percentile". Where the number of trials is given, as
here, the best run that came to its end was worse, so it is not the default.
"""

from __future__ import annotations

from optuna.pruners import BasePruner, NopPruner, PercentilePruner

from fisherbo.sampler.pruner import FisherPruner
from fisherbo.tuning.names import require_known

PRUNERS = ("percentile", "fisher", "none")


def as_pruner(pruner: str | BasePruner, max_steps: int) -> BasePruner:
    """Pruner of a name, or the caller's own.

    Args:
        pruner: Name or pruner.
        max_steps: Steps of a run.

    Raises:
        InvalidInputError: no pruner has the name.
    """
    if isinstance(pruner, BasePruner):
        return pruner
    require_known("pruner", pruner, PRUNERS)
    if pruner == "percentile":
        return PercentilePruner(75.0, n_startup_trials=5, n_warmup_steps=max_steps // 6)
    return FisherPruner() if pruner == "fisher" else NopPruner()
