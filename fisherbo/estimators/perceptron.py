"""What `KFACClassifier` and `KFACRegressor` share: validation, training, what is learned."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from fisherbo.estimators.autotune import defaults, tuned
from fisherbo.estimators.callbacks import EpochTasks
from fisherbo.estimators.course import Course, Epoch
from fisherbo.estimators.evidence import first_guess
from fisherbo.estimators.layers import (
    ACTIVATIONS,
    Layer,
    Scaling,
    as_module,
    draw,
    expanded,
    in_units,
    input_scaling,
    of_module,
    reduced,
    row_space,
    run,
    target_scaling,
)
from fisherbo.estimators.learning import (
    SOLVERS,
    Array,
    Recipe,
    Rows,
    as_rows,
    canonical_order,
    held_out,
    make_optimizer,
    repeats,
)
from fisherbo.estimators.sklearn_private import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
)
from fisherbo.tuning.losses import Likelihood

BATCH_SIZE = 1024  # above it a step costs more and teaches little more
EARLY_ROWS = 10_000  # from which early_stopping="auto" stops early, as gradient boosting does
ALPHA = 1e-3  # of `partial_fit`, which does not see all rows together


@dataclass(frozen=True, eq=False)
class State:
    """What training goes on from: weights in scaled units, and the scales.

    Attributes:
        layers: weights and biases.
        inputs: scaling of the inputs.
        targets: scaling of the targets, in regression.
        recipe: how it was trained.
        optimizer: the optimizer's state, for `partial_fit`.
    """

    layers: Sequence[Layer]
    inputs: Scaling
    targets: Scaling | None
    recipe: Recipe
    optimizer: dict[str, Any] | None = None


class Network(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the classifier and the regressor have in common."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "solver": [StrOptions(set(SOLVERS))],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "damping": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_tuning_trials": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "kfac",
        alpha: Any = "auto",
        batch_size: Any = "auto",
        learning_rate: Any = "auto",
        damping: Any = "auto",
        momentum: float = 0.9,
        max_iter: int = 200,
        tol: float = 2e-2,
        n_iter_no_change: Any = "auto",
        early_stopping: Any = "auto",
        validation_fraction: float = 0.1,
        n_tuning_trials: int = 0,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.damping = damping
        self.momentum = momentum
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_tuning_trials = n_tuning_trials
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the network.

        Args:
            X: inputs (n, inputs); sparse ones are made dense.
            y: targets (n,) or (n, outputs).
            sample_weight: weights (n,); a whole weight is as many equal rows.

        Raises:
            ValueError: the data cannot be used, or does not fit what ``warm_start`` goes on from.
        """
        state = self._state if self.warm_start and hasattr(self, "_state") else None
        context = self._init_callback_context(max_subtasks=self.max_iter)
        tasks = EpochTasks(self, context, {"X": X, "y": y})
        X, y = self._checked(X, y, reset=state is None)
        self._learn(X, self._encoded(y, known=state is not None), sample_weight, state, tasks)
        tasks.close()
        return self

    def _partial(self, X: Any, y: Any, sample_weight: Any) -> Any:
        if self.early_stopping is True:
            raise ValueError("partial_fit does not support early_stopping=True")
        state = getattr(self, "_state", None)
        X, y = self._checked(X, y, reset=state is None)
        known = state is not None or hasattr(self, "classes_")
        self._learn(X, self._encoded(y, known=known), sample_weight, state, None)
        return self

    @abstractmethod
    def _encoded(self, y: Array, *, known: bool) -> Array:
        """Class numbers, labels or (n, outputs) targets; learns the classes unless known."""

    @abstractmethod
    def _likelihood(self) -> Likelihood:
        """Whose negative logarithm the loss is."""

    @abstractmethod
    def _width(self, y: Array) -> int:
        """Outputs of the network."""

    @abstractmethod
    def _score_of(self, y: Array, weight: Array | None) -> Callable[[Array], float]:
        """Function from scaled outputs to the validation score of encoded targets."""

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return _dense(X), y

    def _learn(
        self, X: Array, y: Array, sample_weight: Any, state: State | None, tasks: EpochTasks | None
    ) -> None:
        """Train on encoded targets, from the state or from new weights; one epoch without tasks."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        weight = None
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            kept, weight = repeats(sample_weight)
            X, y = X[kept], y[kept]
        order = canonical_order(X, y, weight)
        X, y, weight = X[order], y[order], None if weight is None else weight[order]
        begun = state or self._begin(X, y, seed)
        if begun.layers[-1][1].shape[0] != self._width(y):
            raise ValueError(
                f"y has {self._width(y)} outputs, but training goes on from a network with "
                f"{begun.layers[-1][1].shape[0]}"
            )
        whole, fresh = tasks is not None, state is None
        early = self.early_stopping
        validation = None
        if whole and (len(X) >= EARLY_ROWS if early == "auto" else early):
            X, y, weight, validation = self._set_apart(X, y, weight, begun, seed)
        rows = self._rows(X, y, weight, begun)
        basis = None
        if whole:
            rows, validation, basis = _in_row_space(rows, validation)

        def state_of(layers: Sequence[Layer], recipe: Recipe) -> State:
            full = expanded(layers, basis, None if fresh else begun.layers)
            return replace(begun, layers=full, recipe=recipe, optimizer=None)

        layers = reduced(begun.layers, basis)
        recipe = self._recipe(rows, layers, begun, seed, fresh=fresh, whole=whole)
        self._train(rows, recipe, layers, begun.optimizer, validation, tasks, state_of)

    def _begin(self, X: Array, y: Array, seed: int) -> State:
        sizes = np.atleast_1d(self.hidden_layer_sizes).tolist()
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        widths = [X.shape[1], *(int(size) for size in sizes), self._width(y)]
        targets = target_scaling(y) if self._likelihood() == "normal" else None
        inputs = input_scaling(np.asarray(X, dtype=np.float64))
        layers = draw(widths, self.activation, seed)
        self.t_ = 0
        self.loss_curve_: list[float] = []
        return State(layers, inputs, targets, self._start(seed))

    def _start(self, seed: int) -> Recipe:
        """The recipe before anything is tuned."""
        middle = {"damping": 1.0, **defaults(self.solver)}
        lr, damping = self.learning_rate, self.damping
        return Recipe(
            solver=self.solver,
            learning_rate=middle["learning_rate"] if lr == "auto" else float(lr),
            damping=middle["damping"] if damping == "auto" else float(damping),
            momentum=self.momentum,
            alpha=ALPHA if self.alpha == "auto" else float(self.alpha),
            by_evidence=False,
            batch_size=BATCH_SIZE if self.batch_size == "auto" else int(self.batch_size),
            max_iter=self.max_iter,
            tol=self.tol,
            patience=None if self.n_iter_no_change == "auto" else self.n_iter_no_change,
            seed=seed,
        )

    def _recipe(
        self,
        rows: Rows,
        layers: Sequence[Layer],
        state: State,
        seed: int,
        *,
        fresh: bool,
        whole: bool,
    ) -> Recipe:
        """The recipe to train by; what is "auto" is settled once, for new weights."""
        names = ("learning_rate", "damping", "alpha")
        free = [name for name in names if getattr(self, name) == "auto"]
        recipe = self._start(seed)
        if not fresh:
            recipe = replace(recipe, **{name: getattr(state.recipe, name) for name in free})
        elif whole and "alpha" in free:
            recipe = replace(recipe, alpha=first_guess(len(rows.x)))
        recipe = replace(recipe, by_evidence=whole and "alpha" in free)
        if not fresh:
            return recipe
        return tuned(rows, layers, self.activation, recipe, free, self.n_tuning_trials)

    def _rows(self, X: Array, y: Array, weight: Array | None, state: State) -> Rows:
        targets = y if state.targets is None else state.targets.apply(y)
        return as_rows(state.inputs.apply(X), targets, self._likelihood(), weight)

    def _set_apart(
        self, X: Array, y: Array, weight: Array | None, state: State, seed: int
    ) -> tuple[Array, Array, Array | None, Any]:
        """Training rows, and validation inputs with their scorer."""
        classes = y if self._likelihood() == "categorical" else None
        training, held = held_out(len(X), classes, self.validation_fraction, seed)
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        inputs = torch.from_numpy(state.inputs.apply(X[held]))
        targets = y[held] if state.targets is None else state.targets.apply(y[held])
        scorer = self._score_of(targets, None if weight is None else weight[held])
        kept = None if weight is None else weight[training]
        return X[training], y[training], kept, (inputs, scorer)

    def _train(
        self,
        rows: Rows,
        recipe: Recipe,
        layers: Sequence[Layer],
        optimizer_state: dict[str, Any] | None,
        validation: Any,
        tasks: EpochTasks | None,
        state_of: Callable[[Sequence[Layer], Recipe], State],
    ) -> None:
        model = as_module(layers, self.activation)
        optimizer = make_optimizer(model, recipe, rows.likelihood)
        if tasks is None and optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)

        def on_epoch(epoch: Epoch) -> bool:
            if self.verbose:
                print(f"Iteration {epoch.number}, loss = {epoch.loss:.8f}")
            return tasks is not None and tasks.end(
                epoch, lambda: _in_units(state_of(of_module(epoch.model), recipe))
            )

        length = recipe if tasks is not None else replace(recipe, max_iter=1)
        course = Course(rows, length, validation, on_epoch, annealed=tasks is not None)
        course.run(model, optimizer, (recipe.seed + self.t_) % 2**31)
        self.t_ += len(rows.x) * len(course.losses)
        self._state = state_of(of_module(model), replace(recipe, alpha=course.alpha))
        if tasks is None:
            self._state = replace(self._state, optimizer=optimizer.state_dict())
        self._publish(course, whole=tasks is not None)

    def _publish(self, course: Course, *, whole: bool) -> None:
        """Set what is learned."""
        state = self._state
        layers = _in_units(state)
        self.coefs_ = [weight for weight, _ in layers]
        self.intercepts_ = [bias for _, bias in layers]
        self.n_layers_ = len(layers) + 1
        self.n_outputs_ = len(layers[-1][1])
        self.alpha_ = state.recipe.alpha
        self.learning_rate_ = state.recipe.learning_rate
        self.damping_ = state.recipe.damping if self.solver in ("kfac", "ekfac") else None
        self.loss_curve_ = [*([] if whole else self.loss_curve_), *course.losses]
        self.loss_ = course.losses[-1]
        self.best_loss_ = None if course.validation else min(self.loss_curve_)
        self.validation_scores_ = course.scores if course.validation else None
        self.best_validation_score_ = max(course.scores) if course.validation else None
        self.n_iter_ = len(course.losses)
        self.out_activation_ = _OUT[self._likelihood()]
        if whole and not course.converged:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _output(self, X: Any) -> Array:
        """Outputs of the network in the targets' units or as logits."""
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False
        )
        layers = list(zip(self.coefs_, self.intercepts_, strict=True))
        return run(layers, self.activation, _dense(X).astype(np.float64))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


_OUT = {"categorical": "softmax", "bernoulli": "logistic", "normal": "identity"}


def _in_units(state: State) -> list[Layer]:
    return in_units(state.layers, state.inputs, state.targets)


def _in_row_space(rows: Rows, validation: Any) -> tuple[Rows, Any, torch.Tensor | None]:
    """Rows and validation rows in coordinates of their span, and its basis, as `row_space` does."""
    held = rows.x[:0] if validation is None else validation[0]
    basis = row_space(torch.cat([rows.x, held]))
    if basis is None:
        return rows, validation, None
    rows = replace(rows, x=rows.x @ basis)
    return rows, validation and (validation[0] @ basis, validation[1]), basis


def _dense(X: Any) -> Array:
    return X.toarray() if sparse.issparse(X) else np.asarray(X)
