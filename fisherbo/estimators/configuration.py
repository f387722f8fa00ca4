"""What a study stands for: digests of everything that decides a candidate's score.

Two searches with one configuration would give every candidate the same scores, up to randomness
that nobody seeded, and so may share a study. What decides only which candidates are tried, and when
or where, is no part of it: ``n_trials``, ``random_state``, ``sampler``, ``pruning``, ``n_jobs``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import sklearn
from sklearn.base import clone

from fisherbo.estimators.digest import digest
from fisherbo.estimators.evaluation import Protocol
from fisherbo.estimators.spaces import SearchSpace

_SETTINGS = ("array_api_dispatch", "enable_metadata_routing", "transform_output")


def configuration(
    protocol: Protocol,
    space: SearchSpace,
    param_distributions: Any,
    scoring: Any,
    objectives: Sequence[str] | None,
) -> dict[str, str]:
    """Digest of each part.

    Warns:
        UserWarning: a part holds an object that cannot be read; its digest is new each time.
    """
    settings = sklearn.get_config()
    parts = {
        "data": (protocol.X, protocol.y),
        "splits": list(protocol.splits),
        "fit parameters": _items(protocol.options["fit_params"]),
        "score parameters": _items(protocol.options["score_params"]),
        "estimator": protocol.estimator,
        "space": (space.describe(), _values(param_distributions)),
        "scoring": scoring,
        "objectives": list(objectives or ()),
        "error_score": protocol.options["error_score"],
        "return_train_score": protocol.options["return_train_score"],
        "version of scikit-learn": (sklearn.__version__, [settings[name] for name in _SETTINGS]),
    }
    return {name: _digest(name, part) for name, part in parts.items()}


def _digest(name: str, part: Any) -> str:
    found, unread = digest(part)
    if unread:
        warnings.warn(
            f"What decides the scores cannot be read in full: {name} of this search holds "
            f"{', '.join(sorted(set(unread)))}, which cannot be told from that of another search. "
            "So it has a study of its own in the storage, and no later search will go on with it.",
            UserWarning,
            stacklevel=3,
        )
    return found


def _items(given: Any) -> dict[str, Any]:
    return dict(sorted((given or {}).items()))


def _values(param_distributions: Any) -> list[dict[str, Any]]:
    """The space as written, but for what a search does not use."""
    one = isinstance(param_distributions, Mapping)
    spaces = [param_distributions] if one else param_distributions
    return [{name: _used(value) for name, value in sorted(space.items())} for space in spaces]


def _used(value: Any) -> Any:
    """Estimators without what they learned, and distributions of scipy without their generators.

    A distribution holds the global one, or, once it is copied, the state that it was in.
    """
    if isinstance(value, list | tuple):
        return clone(value, safe=False)
    if type(value).__module__.startswith("scipy.stats") and hasattr(value, "random_state"):
        value = deepcopy(value)
        value.random_state = None
    return value
