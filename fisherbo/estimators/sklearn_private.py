"""Every undocumented name of scikit-learn that the estimators use, each with its reason.

They are why `pyproject.toml` bounds the version: a release may change them without a word. A new
one is admitted when the tests of the estimators pass with it.

`BaseSearchCV` has a documented extension point, ``_run_search``, in which a subclass proposes
candidates and scikit-learn fits them. It does not serve here: a batch whose fits all fail ends the
search, which in batches of one is the first bad candidate; results that a storage holds already
cannot be handed in, so that a search with nothing left to fit cannot be written; and a candidate
cannot be given up between folds.
"""

from sklearn.base import (
    # Checks parameters in scikit-learn's words, and tears callbacks down.
    _fit_context,
)
from sklearn.model_selection._search import (
    # Documented as what searches derive from, but in no public module. Of it are used:
    # `_get_scorers`, `_get_routed_params_for_fit`: metadata routing, which has two modes.
    # `_check_refit_for_multimetric`: the wording.
    # `_format_results`: `cv_results_`. `_select_best_index`: the rules of ``refit``.
    BaseSearchCV,
)
from sklearn.model_selection._validation import (
    # One fold of one candidate, with metadata, callbacks, `error_score` and `verbose` as in every
    # search. `cross_validate` on one fold raises where the fit fails, and knows no callbacks.
    _fit_and_score,
    # The wording for fits that failed, and the traceback of each.
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils._param_validation import (
    # Ranges and words of parameters, in the wording of scikit-learn's own estimators.
    Interval,
    StrOptions,
)
from sklearn.utils.multiclass import (
    # The rule for `classes` in `partial_fit`.
    _check_partial_fit_first_call,
)
from sklearn.utils.validation import (
    # Weights as a checked array.
    _check_sample_weight,
)

CALLBACKS = "_skl_callbacks"
"""Attribute of estimators for the callbacks that were set; there is no method to ask for them."""

CONTEXTS = ("_callback_fit_ctx", "_parent_callback_ctx")
"""Attributes that estimators have while they are fitted."""

__all__ = [
    "CALLBACKS",
    "CONTEXTS",
    "BaseSearchCV",
    "Interval",
    "StrOptions",
    "_check_partial_fit_first_call",
    "_check_sample_weight",
    "_fit_and_score",
    "_fit_context",
    "_warn_or_raise_about_fit_failures",
]
