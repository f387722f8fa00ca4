"""Every undocumented name of scikit-learn that the estimators use, each with its reason.

They are why `pyproject.toml` bounds the version. `BaseSearchCV` has a documented extension point,
``_run_search``, in which a subclass proposes candidates and scikit-learn fits them. It does not
serve here: a batch whose fits all fail ends the search, which with batches of one candidate is the
first bad one; results that a storage holds already cannot be handed in, and a search that has
nothing left to fit cannot be written; and the folds of a candidate cannot be stopped.
"""

from sklearn.base import (
    # Checks parameters in scikit-learn's words, and tears callbacks down.
    _fit_context,
)
from sklearn.model_selection._search import (
    # Documented as the class to derive searches from, but in no public module. Used of it besides
    # `_run_search`'s neighbours that are public: `_get_scorers`, `_get_routed_params_for_fit`,
    # `_check_refit_for_multimetric`, `_format_results` (`cv_results_`), `_select_best_index`.
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
    # Ranges and words of parameters, in the words of scikit-learn's own estimators.
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

__all__ = [
    "BaseSearchCV",
    "Interval",
    "StrOptions",
    "_check_partial_fit_first_call",
    "_check_sample_weight",
    "_fit_and_score",
    "_fit_context",
    "_warn_or_raise_about_fit_failures",
]
