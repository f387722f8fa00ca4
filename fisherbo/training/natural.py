"""The natural gradient of all weights together: exact Fisher, never formed, by conjugate gradients.

Symbols: F exact Fisher of the rows of this step, g gradient with the L2 term, λ damping, η weight
decay.

    v ← μ v + ν (F + (λ+η) I)⁻¹ g,    θ ← θ − lr·v

Products with F cost one backward pass each (Pearlmutter 1994; Martens 2020, § 8), so that a step
costs dozens of them: for small models, and for those whose layers K-FAC cannot cover.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.geometry.metric import MatrixFreeMetric, Product, fisher_vector_product
from fisherbo.geometry.trust_region import kl_share
from fisherbo.training.adaptation import Situation, number, situation
from fisherbo.training.events import ClassDimension, events, used_entries
from fisherbo.training.guards import remedy
from fisherbo.training.hooks import (
    Hook,
    check_copied,
    copied_state,
    remove_idle_hooks,
    single_tensor,
)
from fisherbo.training.likelihoods import (
    Likelihood,
    LikelihoodFunction,
    check_likelihood,
    distribution,
)
from fisherbo.training.parameters import ModelParameters, check_model
from fisherbo.training.passes import weight_versions, when_reached
from fisherbo.training.plan import StepReport
from fisherbo.training.processes import rank_and_size, sum_over_processes, sums
from fisherbo.training.quadratic import second_derivatives
from fisherbo.training.settings import check_settings


@dataclass
class _Pass:
    """A forward pass: its arguments, what it began with, and which entries the loss uses."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    before: Situation
    used: Tensor | None = None
    dim: int = -1


class NaturalGradient(torch.optim.Optimizer):
    """Damped natural gradient with the exact Fisher of all weights, for models of any modules.

    The loop is the usual one: ``zero_grad; loss(model(x), y).backward(); step()``. A step evaluates
    the model once more on the inputs of each forward pass that a backward pass has reached since
    the last `zero_grad` or `step`. It does so in the precision of the weights and with the same
    dropout masks, and leaves generators and statistics as they were. Second derivatives are needed;
    `torch.nn.functional.scaled_dot_product_attention` is computed by its MATH backend for that. The
    Fisher is that of ``−log p(y | z)``, summed over the entries of ``z`` that belong to one
    distribution, and averaged over the rows that the loss uses (see `fisherbo.training.KFAC`).
    ``lr``, ``damping``, ``momentum``, ``weight_decay`` and ``kl_clip`` may be changed in
    ``param_groups[0]`` at any time.

    Parameters that are frozen later stay as they are; those that are frozen when it is built must
    remain so. ``copy.deepcopy`` and pickle copy the model along, so that
    ``copy.deepcopy((model, optimizer))`` is a pair that continues to the bit.

    Args:
        model: The network; it must be called as a whole.
        likelihood: ``"categorical"``, ``"bernoulli"`` (logits), ``"normal"`` (means with unit
            variance) or ``"heteroscedastic_normal"`` (means and as many log variances); or a
            function from outputs, shape ``(rows, C)``, to a `torch.distributions.Distribution` of
            a family whose KL divergence torch knows.
        class_dim: The dimension of the output that a distribution is over. Default: the last one,
            or for categorical outputs of more than two dimensions the one that the gradient of the
            loss sums to 0 over (the last one, or 1 as in ``cross_entropy``).
        lr: Learning rate; 1 is the Gauss–Newton step, 0 moves nothing.
        damping: λ, added to the Fisher.
        momentum: μ, heavy ball on the natural gradient.
        weight_decay: η, L2: η θ is added to the gradient and η to the damping.
        kl_clip: Largest ``lr² vᵀg`` of one natural gradient, twice its KL divergence; ``None``: no
            limit.
        tolerance: Relative residual at which conjugate gradients stop.
        max_iterations: Largest number of conjugate-gradient iterations; the solution reached by
            then is used.
        distributed: Whether the processes of the default group, if there is one, train this model
            together.

    Raises:
        InvalidInputError: If an argument breaks its rule or no parameter requires a gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        likelihood: Likelihood | LikelihoodFunction,
        class_dim: int | None = None,
        lr: float = 1.0,
        damping: float = 1e-2,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        kl_clip: float | None = None,
        tolerance: float = 1e-4,
        max_iterations: int = 50,
        distributed: bool = True,
    ) -> None:
        check_model("NaturalGradient", model)
        settings = {
            "lr": lr,
            "damping": damping,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "kl_clip": kl_clip,
        }
        check_settings(settings | {"tolerance": tolerance, "max_iterations": max_iterations})
        check_likelihood(likelihood)
        self._dimension = ClassDimension(likelihood, class_dim)
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise InvalidInputError(
                f"model must have parameters that require a gradient, got none in "
                f"{type(model).__name__}"
            )
        super().__init__([{"params": parameters, **settings}], {"lr": lr})
        for parameter in parameters:
            self.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
        self._model = model
        self._model_parameters = ModelParameters(model)
        self._likelihood: Likelihood | LikelihoodFunction = likelihood
        self._limits = (tolerance, max_iterations)
        self._distributed = distributed
        self._watch()
        self._report = StepReport(damping, lr, momentum, 0.0, 0.0)

    def _watch(self) -> None:
        """Put the hooks on the model."""
        self._processes = rank_and_size(self._distributed)[1]
        self._passes: list[_Pass] = []
        self._pass: _Pass | None = None
        self._versions: tuple[int, ...] = ()
        self._paused = False
        remove_idle_hooks(self._model)
        self._handles = [
            self._model.register_forward_pre_hook(Hook(self._begin), with_kwargs=True),
            self._model.register_forward_hook(Hook(self._finish)),
        ]
        self._hooked = True

    @property
    def last_step(self) -> StepReport:
        """Damping, v·g and KL divergence of the last step."""
        return self._report

    def remove_hooks(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._hooked = [], False
        self._forget()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, and forget the passes that they came from."""
        super().zero_grad(set_to_none)
        self._forget()

    # torch declares two overloads; this is the union of them
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Evaluates the loss and its gradients anew; not needed.

        Returns:
            The closure's loss, if there is one.

        Raises:
            DivergedError: If a loss, a gradient or an output is not finite; the parameters are left
                as they were.
            InvalidInputError: If no forward and backward pass of the whole model came first, an
                operation has no second derivative, or the model has other parameters than
                NaturalGradient was built with.
            NumericalError: If a product with the Fisher shows negative curvature.
        """
        self._model_parameters.check("NaturalGradient")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            gradient = self._gradient()
            try:
                self._check(loss, gradient)
                self._move(gradient, self._natural(gradient))
            finally:
                self._forget()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: the group follows from the model."""
        if self.param_groups:
            raise InvalidInputError(
                "the parameter group of NaturalGradient follows from its model, got a further "
                "group; build a new NaturalGradient"
            )
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """All but the hooks and the passes since the last step, the model included."""
        return copied_state(self, "_handles", "_passes", "_pass")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set all, and watch the model that was copied along."""
        super().__setstate__(state)
        if "_model" in state:  # torch calls this for a loaded state_dict too
            check_copied("NaturalGradient", self._model)
            hooked = self._hooked
            self._watch()
            if not hooked:
                self.remove_hooks()

    @property
    def _settings(self) -> dict[str, Any]:
        return self.param_groups[0]

    @property
    def _parameters(self) -> list[Tensor]:
        """Those that are not frozen."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    @property
    def _watched(self) -> list[Tensor]:
        """All that were not frozen when this was built."""
        return [p for group in self.param_groups for p in group["params"]]

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._pass = None
        if torch.is_grad_enabled() and not self._paused and self._model_parameters.watched():
            if self._passes and weight_versions(self._watched) != self._versions:
                self._forget()  # the passes of another optimizer's step
            self._pass = _Pass(_detached(args), _detached(kwargs), situation(model))

    def _finish(self, _model: nn.Module, _args: object, outputs: object) -> Tensor | None:
        current, self._pass = self._pass, None
        if current is None:
            return None
        outputs = single_tensor(outputs)
        return when_reached(outputs, self._reached, current) if outputs.requires_grad else None

    def _reached(self, current: _Pass, outputs: Tensor, gradient: Tensor) -> None:
        """Keep a pass for the next step once a backward pass came to its outputs."""
        if not self._handles:
            return
        dim = self._dimension.of(outputs, gradient)
        z, g = (events(v.detach(), self._likelihood, dim) for v in (outputs, gradient))
        used = used_entries(z, g, self._likelihood)
        if current.used is not None:
            current.used |= used
            return
        current.used, current.dim = used, dim
        self._versions = weight_versions(self._watched)
        self._passes.append(current)

    def _forget(self) -> None:
        for one in self._passes:  # the graph outlives them where a loss is kept
            one.args, one.kwargs = (), {}
        self._passes = []

    def _check(self, loss: float | None, gradient: Tensor) -> None:
        """Refuse a step, in all processes if one must.

        Raises:
            DivergedError: If the loss or a gradient is not finite.
            InvalidInputError: If no pass came first, or a parameter is trained that was frozen.
        """
        late = self._model_parameters.added(set(self._watched))
        if late is not None:
            raise InvalidInputError(
                f"parameter {late!r} must be trained when NaturalGradient is built, got one that "
                "was frozen then; build NaturalGradient after unfreezing it"
            )
        finite = loss is None or math.isfinite(number(loss))
        wrong = [float(not (finite and gradient.isfinite().all())), float(not self._passes)]
        if self._processes > 1:
            wrong = sums(wrong, gradient.device)
        if wrong[0]:
            raise DivergedError(
                "the loss or a gradient is not finite; no parameter was changed; "
                f"{remedy(self._settings)}"
            )
        if wrong[1]:
            raise InvalidInputError(
                "step() needs a forward pass of the whole model, and a backward pass from its "
                "output, since the last step, got none; call loss(model(x), y).backward() of the "
                "model that NaturalGradient was given first"
            )

    def _gradient(self) -> Tensor:
        decay = self._settings["weight_decay"]
        parts = [
            (torch.zeros_like(p) if p.grad is None else p.grad) + decay * p
            for p in self._parameters
        ]
        return torch.cat([part.flatten() for part in parts])

    def _natural(self, gradient: Tensor) -> Tensor:
        damping = self._settings["damping"] + self._settings["weight_decay"]
        metric = MatrixFreeMetric(self._fisher(self._passes), damping, *self._limits)
        return metric.natural(gradient)

    def _fisher(self, passes: list[_Pass]) -> Product:
        """Products with the mean Fisher over the rows of all passes and processes, 0 if none."""
        products = [self._product(one) for one in passes]
        total = float(sum(rows for _, rows in products))  # NaN where an output is not finite
        if self._processes > 1:
            (total,) = sums([total], self._parameters[0].device)
        if math.isnan(total):
            raise DivergedError(
                "an output of the model is not finite; no parameter was changed; "
                f"{remedy(self._settings)}"
            )
        rows_of_all = max(total, 1.0)

        def product(vector: Tensor) -> Tensor:
            with second_derivatives("NaturalGradient"):
                added = torch.stack([rows * one(vector) for one, rows in products]).sum(0)
            if self._processes > 1:
                sum_over_processes([added])
            return added / rows_of_all

        return product

    def _product(self, one: _Pass) -> tuple[Product, float]:
        """Products with the mean Fisher over the rows of a pass that the loss uses, and number.

        The number is NaN, and the Fisher that of outputs 0, where an output is not finite.
        """
        used, finite = one.used, True
        assert used is not None
        rows = used.any(-1).flatten()

        def evaluate(_: Tensor) -> Tensor:
            nonlocal finite
            outputs = single_tensor(self._model(*one.args, **one.kwargs))
            z = events(outputs, self._likelihood, one.dim)
            found = torch.where(used, z, z.detach()).flatten(0, 1)[rows]
            finite = bool(found.isfinite().all())
            return found if finite else found.nan_to_num(0.0, 0.0, 0.0)

        self._paused = True
        try:
            with one.before.again(self._parameters), sdpa_kernel(SDPBackend.MATH):
                if not rows.any():
                    with torch.enable_grad():  # as the other processes do, for their collectives
                        evaluate(torch.empty(0))
                    return torch.zeros_like, 0.0
                product = fisher_vector_product(
                    evaluate,
                    torch.empty(0),
                    lambda z: distribution(z, self._likelihood),
                    parameters=self._parameters,
                )
        finally:
            self._paused = False
        return product, float(rows.sum()) if finite else math.nan

    def _move(self, gradient: Tensor, natural: Tensor) -> None:
        lr, momentum = float(self._settings["lr"]), float(self._settings["momentum"])
        slope, clip = float(gradient @ natural), self._settings["kl_clip"]
        scale = 1.0 if clip is None else kl_share(lr * lr * slope, clip)
        parts = natural.split([p.numel() for p in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            buffer = self.state[parameter]["momentum_buffer"].mul_(momentum)
            buffer.add_(part.reshape(parameter.shape), alpha=scale)
            parameter.add_(buffer, alpha=-lr)
        kl = 0.5 * (lr * scale) * (lr * scale) * slope
        damping = float(self._settings["damping"])
        self._report = StepReport(damping, lr, momentum, slope, kl, scale)


def _detached(value: Any) -> Any:
    """Arguments without their graph."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, tuple | list):
        return type(value)(_detached(item) for item in value)
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    return value
