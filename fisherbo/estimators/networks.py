"""`KFACClassifier` and `KFACRegressor`: perceptrons trained by K-FAC, for scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fisherbo.estimators.learning import Array
from fisherbo.estimators.perceptron import Network
from fisherbo.estimators.sklearn_private import _check_partial_fit_first_call, _fit_context
from fisherbo.tuning.losses import Likelihood


class KFACClassifier(ClassifierMixin, Network):  # type: ignore[misc]  # scikit-learn has no types
    """Multilayer perceptron for classes, trained by K-FAC (Martens & Grosse 2015).

    In the place of `sklearn.neural_network.MLPClassifier`: the same weights and curves as
    attributes, in the units of the data. Inputs are centred and scaled inside; where they outnumber
    the rows, training is in the coordinates of the rows' span, which loses nothing.

    The learning rate falls to zero in rounds, each as long as all before it. A ConvergenceWarning
    says that `max_iter` epochs were over before further rounds would have gained little.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        activation: "identity", "logistic", "tanh" or "relu".
        solver: "kfac", "ekfac", "adam" or "sgd" (Nesterov).
        alpha: L2 penalty α/2 ‖w‖², in scaled units; "auto" follows the evidence during training
            (MacKay 1992), about as if chosen by cross-validation, at the cost of some steps.
        batch_size: rows of a step; "auto" is about 1024, or all if there are fewer: K-FAC needs few
            steps with exact factors. A step costs more above, and the factors are noisy below.
        learning_rate: of the beginning of each round, from where it falls linearly to zero; "auto"
            is .3 for "kfac" and "ekfac", where the KL divergence of a step is bounded too.
        damping: λ that K-FAC adds to the curvature; "auto" is .005, in scaled units.
        momentum: of "kfac", "ekfac" and "sgd".
        max_iter: epochs, at most. 200 are 200 steps up to 1,500 rows.
        tol: training ends where further rounds would gain less than this share of the penalised
            loss, or with early stopping of one less the score, as extrapolated from the last two;
            what is less than .1 counts as .1.
        n_iter_no_change: epochs of the first round; each further one is as long as all before it.
            "auto" is 25 steps, or an epoch if that is longer.
        early_stopping: whether a part of the rows is held out and the weights of the best accuracy
            there are kept; "auto": from 10,000 rows on, where the part can be spared.
        validation_fraction: that part.
        n_tuning_trials: runs of a study that chooses what is "auto" of learning rate and damping
            by the loss of a quarter of the rows; 0 takes the values above, which serve from 100 to
            100,000 rows. Below 60 rows there is no study.
        warm_start: whether `fit` goes on from the weights of the fit before.
        random_state: seed of weights, order of rows, tuning and splits.
        verbose: whether to print the loss of each epoch.

    Attributes:
        classes_: class labels; of several labels a row, their numbers.
        coefs_, intercepts_: weights (inputs, outputs) and biases of each layer.
        loss_curve_: mean training loss of each epoch; ``loss_`` its last, ``best_loss_`` its least.
        validation_scores_, best_validation_score_: with early stopping; else None.
        alpha_, learning_rate_, damping_: what was used.
        n_iter_, t_: epochs, and rows seen.
        n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_: as in
            scikit-learn.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> KFACClassifier(random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> KFACClassifier:
        """Train for one epoch on these rows, at the full learning rate.

        The first call settles the scales. `alpha` "auto" is what `fit` found, or else .001, and no
        part is held out.

        Args:
            X: inputs (n, inputs).
            y: targets.
            sample_weight: weights (n,).
            classes: all classes that will come; needed in the first call.
        """
        if _check_partial_fit_first_call(self, classes):
            self._multilabel = type_of_target(y).startswith("multilabel")
        return self._partial(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """Classes (n,), or labels (n, outputs)."""
        output = self._output(X)
        if self._multilabel:
            return (output > 0).astype(int)
        return self.classes_[output.argmax(1)]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n, classes); of several labels each its own."""
        output = self._output(X)
        return expit(output) if self._multilabel else softmax(output, axis=1)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities."""
        output = self._output(X)
        return log_expit(output) if self._multilabel else log_softmax(output, axis=1)

    def _encoded(self, y: Array, *, known: bool) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("Multioutput target data is not supported with KFACClassifier")
        if not known:
            self._multilabel = kind.startswith("multilabel")
            self.classes_ = np.arange(y.shape[1]) if self._multilabel else np.unique(y)
        if self._multilabel:
            return np.asarray(y, dtype=np.float32)
        self._require_known(y, exactly=self.warm_start and hasattr(self, "_state"))
        return np.searchsorted(self.classes_, y)

    def _require_known(self, y: Array, *, exactly: bool) -> None:
        classes = unique_labels(y)
        if exactly and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, self.classes_)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {classes}."
            )

    def _likelihood(self) -> Likelihood:
        return "bernoulli" if self._multilabel else "categorical"

    def _width(self, y: Array) -> int:
        return len(self.classes_)

    def _score_of(self, y: Array, weight: Array | None) -> Callable[[Array], float]:
        def accuracy(output: Array) -> float:
            found = (output > 0).astype(int) if self._multilabel else output.argmax(1)
            return float(accuracy_score(y.astype(int), found, sample_weight=weight))

        return accuracy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class KFACRegressor(RegressorMixin, Network):  # type: ignore[misc]  # scikit-learn has no types
    """Multilayer perceptron for numbers, trained by K-FAC (Martens & Grosse 2015).

    In the place of `sklearn.neural_network.MLPRegressor`: the same weights and curves as
    attributes, in the units of the data. Inputs and targets are centred and scaled inside; losses
    are half squared errors of scaled targets. Where inputs outnumber the rows, training is in the
    coordinates of the rows' span, which loses nothing.

    The learning rate falls to zero in rounds, each as long as all before it. A ConvergenceWarning
    says that `max_iter` epochs were over before further rounds would have gained little.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        activation: "identity", "logistic", "tanh" or "relu".
        solver: "kfac", "ekfac", "adam" or "sgd" (Nesterov).
        alpha: L2 penalty α/2 ‖w‖², in scaled units; "auto" follows the evidence during training
            (MacKay 1992), about as if chosen by cross-validation, at the cost of some steps.
        batch_size: rows of a step; "auto" is about 1024, or all if there are fewer: K-FAC needs few
            steps with exact factors. A step costs more above, and the factors are noisy below.
        learning_rate: of the beginning of each round, from where it falls linearly to zero; "auto"
            is .3 for "kfac" and "ekfac", where the KL divergence of a step is bounded too.
        damping: λ that K-FAC adds to the curvature; "auto" is .005, in scaled units.
        momentum: of "kfac", "ekfac" and "sgd".
        max_iter: epochs, at most. 200 are 200 steps up to 1,500 rows.
        tol: training ends where further rounds would gain less than this share of the penalised
            loss, or with early stopping of one less the score, as extrapolated from the last two;
            what is less than .1 counts as .1.
        n_iter_no_change: epochs of the first round; each further one is as long as all before it.
            "auto" is 25 steps, or an epoch if that is longer.
        early_stopping: whether a part of the rows is held out and the weights of the best R²
            there are kept; "auto": from 10,000 rows on, where the part can be spared.
        validation_fraction: that part.
        n_tuning_trials: runs of a study that chooses what is "auto" of learning rate and damping
            by the loss of a quarter of the rows; 0 takes the values above, which serve from 100 to
            100,000 rows. Below 60 rows there is no study.
        warm_start: whether `fit` goes on from the weights of the fit before.
        random_state: seed of weights, order of rows, tuning and splits.
        verbose: whether to print the loss of each epoch.

    Attributes:
        coefs_, intercepts_: weights (inputs, outputs) and biases of each layer.
        loss_curve_: mean training loss of each epoch; ``loss_`` its last, ``best_loss_`` its least.
        validation_scores_, best_validation_score_: with early stopping; else None.
        alpha_, learning_rate_, damping_: what was used.
        n_iter_, t_: epochs, and rows seen.
        n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_: as in
            scikit-learn.

    Example:
        >>> from sklearn.datasets import make_regression
        >>> X, y = make_regression(200, 5, random_state=0)
        >>> KFACRegressor(random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> KFACRegressor:
        """Train for one epoch on these rows, at the full learning rate.

        The first call settles the scales. `alpha` "auto" is what `fit` found, or else .001, and no
        part is held out.

        Args:
            X: inputs (n, inputs).
            y: targets (n,) or (n, outputs).
            sample_weight: weights (n,).
        """
        return self._partial(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """Targets (n,) or (n, outputs)."""
        output = self._output(X)
        return output.ravel() if self._one_column else output

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        X, y = super()._checked(X, y, reset=reset)
        return X, np.asarray(y, dtype=np.float64)

    def _encoded(self, y: Array, *, known: bool) -> Array:
        if not known:
            self._one_column = y.ndim == 1
        return y.reshape(len(y), -1)

    def _likelihood(self) -> Likelihood:
        return "normal"

    def _width(self, y: Array) -> int:
        return int(y.shape[1])

    def _score_of(self, y: Array, weight: Array | None) -> Callable[[Array], float]:
        return lambda output: float(r2_score(y, output, sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
