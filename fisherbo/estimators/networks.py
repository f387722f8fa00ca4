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

    Takes the place of `sklearn.neural_network.MLPClassifier`, with the same weights and curves as
    attributes, in the units of the data. Inputs are centred and scaled inside. If there are more
    inputs than rows, training takes place in the span of the rows, which loses nothing.

    Training consists of rounds, each as long as all earlier ones together; in a round the learning
    rate falls to zero. A ConvergenceWarning says that `max_iter` epochs were over while further
    rounds were still expected to help.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        activation: "identity", "logistic", "tanh" or "relu".
        solver: "kfac", "ekfac", "adam" or "sgd" (Nesterov).
        alpha: L2 penalty α/2 ‖w‖², in scaled units; "auto" adapts it to the evidence during
            training (MacKay 1992), which ends about where cross-validation would and costs some
            steps.
        batch_size: rows in a step; "auto" is about 1024, or all if there are fewer. Larger batches
            make a step more expensive; smaller ones make K-FAC's factors noisy.
        learning_rate: learning rate at the beginning of each round, from which it falls linearly to
            zero; "auto" is .3 for "kfac" and "ekfac", where the KL divergence of a step is bounded
            too.
        damping: λ that K-FAC adds to the curvature; "auto" is .005, in scaled units.
        momentum: momentum of "kfac", "ekfac" and "sgd".
        max_iter: largest number of epochs. Up to 1,500 rows, 200 epochs are 200 steps.
        tol: training ends when further rounds are expected to gain less than this share of the
            penalised loss, or with early stopping of 1 − score. The gain is extrapolated from the
            last two rounds; a loss, or 1 − score, below .1 counts as .1.
        n_iter_no_change: epochs of the first round; every further round is as long as all before it
            together. "auto" is 25 steps, or an epoch if that is longer.
        early_stopping: whether rows are held out, and the weights with the best accuracy on them
            kept; "auto" does so from 10,000 rows on, where they can be spared.
        validation_fraction: share of the rows that is held out.
        n_tuning_trials: trials of a study that chooses the learning rate and the damping, if they
            are "auto", by the loss on a quarter of the rows; 0 uses the values above, which suit
            100 to 100,000 rows. Below 60 rows there is no study.
        warm_start: whether `fit` starts from the weights of the last fit.
        random_state: seed of the weights, the order of rows, the tuning and the splits.
        verbose: whether to print the loss of each epoch.

    Attributes:
        classes_: class labels; if a row has several labels, their numbers.
        coefs_, intercepts_: weights (inputs, outputs) and biases of each layer.
        loss_curve_: mean training loss of each epoch; ``loss_`` is its last value, ``best_loss_``
            its smallest.
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

        The first call fixes the scales of the data. An `alpha` of "auto" is the one that `fit`
        found, or .001; no rows are held out.

        Args:
            X: inputs (n, inputs).
            y: targets.
            sample_weight: weights (n,).
            classes: all classes that will ever occur; needed in the first call.
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
        """Probabilities (n, classes); if a row has several labels, that of each label."""
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

    Takes the place of `sklearn.neural_network.MLPRegressor`, with the same weights and curves as
    attributes, in the units of the data. Inputs and targets are centred and scaled inside; losses
    are half squared errors of scaled targets. If there are more inputs than rows, training takes
    place in the span of the rows, which loses nothing.

    Training consists of rounds, each as long as all earlier ones together; in a round the learning
    rate falls to zero. A ConvergenceWarning says that `max_iter` epochs were over while further
    rounds were still expected to help.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        activation: "identity", "logistic", "tanh" or "relu".
        solver: "kfac", "ekfac", "adam" or "sgd" (Nesterov).
        alpha: L2 penalty α/2 ‖w‖², in scaled units; "auto" adapts it to the evidence during
            training (MacKay 1992), which ends about where cross-validation would and costs some
            steps.
        batch_size: rows in a step; "auto" is about 1024, or all if there are fewer. Larger batches
            make a step more expensive; smaller ones make K-FAC's factors noisy.
        learning_rate: learning rate at the beginning of each round, from which it falls linearly to
            zero; "auto" is .3 for "kfac" and "ekfac", where the KL divergence of a step is bounded
            too.
        damping: λ that K-FAC adds to the curvature; "auto" is .005, in scaled units.
        momentum: momentum of "kfac", "ekfac" and "sgd".
        max_iter: largest number of epochs. Up to 1,500 rows, 200 epochs are 200 steps.
        tol: training ends when further rounds are expected to gain less than this share of the
            penalised loss, or with early stopping of 1 − score. The gain is extrapolated from the
            last two rounds; a loss, or 1 − score, below .1 counts as .1.
        n_iter_no_change: epochs of the first round; every further round is as long as all before it
            together. "auto" is 25 steps, or an epoch if that is longer.
        early_stopping: whether rows are held out, and the weights with the best R² on them
            kept; "auto" does so from 10,000 rows on, where they can be spared.
        validation_fraction: share of the rows that is held out.
        n_tuning_trials: trials of a study that chooses the learning rate and the damping, if they
            are "auto", by the loss on a quarter of the rows; 0 uses the values above, which suit
            100 to 100,000 rows. Below 60 rows there is no study.
        warm_start: whether `fit` starts from the weights of the last fit.
        random_state: seed of the weights, the order of rows, the tuning and the splits.
        verbose: whether to print the loss of each epoch.

    Attributes:
        coefs_, intercepts_: weights (inputs, outputs) and biases of each layer.
        loss_curve_: mean training loss of each epoch; ``loss_`` is its last value, ``best_loss_``
            its smallest.
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

        The first call fixes the scales of the data. An `alpha` of "auto" is the one that `fit`
        found, or .001; no rows are held out.

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
