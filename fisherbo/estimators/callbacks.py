"""What scikit-learn's callbacks are told of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fisherbo.estimators.course import Epoch
from fisherbo.estimators.layers import Layer


class EpochTasks:
    """Tells scikit-learn's callbacks of each epoch, with an estimator as it then is."""

    def __init__(self, owner: Any, context: Any, data: dict[str, Any]) -> None:
        self._owner, self._root, self._data = owner, context, data
        self._root.call_on_fit_task_begin(estimator=owner, **data)
        self._next()

    def end(self, epoch: Epoch, layers: Callable[[], Sequence[Layer]]) -> bool:
        """After an epoch, with the layers in the units of the data; whether to stop."""
        stop = bool(
            self._task.call_on_fit_task_end(
                estimator=self._owner,
                **self._data,
                reconstruction_attributes=lambda: self._learned(layers()),
            )
        )
        if not (epoch.last or stop):
            self._next()
        return stop

    def close(self) -> None:
        """After the last epoch."""
        self._root.call_on_fit_task_end(estimator=self._owner, **self._data)

    def _next(self) -> None:
        self._task = self._root.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(estimator=self._owner, **self._data)

    def _learned(self, layers: Sequence[Layer]) -> dict[str, Any]:
        learned = {"coefs_": [w for w, _ in layers], "intercepts_": [b for _, b in layers]}
        kept = ("classes_", "_multilabel", "_one_column", "n_features_in_", "feature_names_in_")
        return learned | {k: v for k, v in vars(self._owner).items() if k in kept}
