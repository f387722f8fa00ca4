"""K-FAC as a `torch.optim.Optimizer`: natural-gradient steps with Kronecker-factored curvature.

Symbols: A, G Kronecker factors; λ damping, η weight decay; g gradient with the L2 term; v = F⁻¹g.

    v ← μ v + ν F⁻¹ g,    θ ← θ − lr·v,    F = (A + π√(λ+η) I) ⊗ (G + √(λ+η)/π I)

(Martens & Grosse 2015, without its rescaling of lr and μ by an exact quadratic model.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from fisherbo.errors import DivergedError, InvalidInputError, NumericalError
from fisherbo.geometry.metric import KroneckerMetric
from fisherbo.training.capture import Capture, Moments, OutputFisher
from fisherbo.training.coverage import Coverage, Layer, examine
from fisherbo.training.factors import (
    Likelihood,
    average_weight,
    damped_metric,
    kl_clip_factor,
)
from fisherbo.training.settings import check_choice, check_settings

Fisher = Literal["mc", "type2"]

_EARLY_STEPS = 10  # the curvature changes fast at first; M&G (2015), § 8, do so for 3 steps


@dataclass(frozen=True)
class _Block:
    """A layer and its gradient with the L2 term, shape ``(d_out, d_in)``, bias column last."""

    layer: Layer
    gradient: Tensor


class KFAC(torch.optim.Optimizer):
    """Kronecker-factored approximate curvature for the Linear and Conv2d modules of a model.

    The loop is the usual one: ``zero_grad; loss(model(x), y).backward(); step()``. Hooks on the
    model collect what the factors need in the forward pass. Rows are the first dimension of the
    model's output, and of each module's input. The Fisher is that of
    ``−log p(y | z)``, summed over the last dimension of the model's output ``z`` and averaged over
    rows; a loss that is scaled in another way (``MSELoss`` is 2/C of it) is the same method with
    another ``lr``.

    ``param_groups[0]`` holds what K-FAC trains; ``lr``, ``damping``, ``momentum``, ``weight_decay``
    and ``kl_clip`` may be changed there at any time, by a scheduler or by hand.
    ``param_groups[1]``, if there is one, holds all other parameters, which `torch.optim.AdamW`
    trains; `coverage` tells which.

    Args:
        model: The network; it must be called as a whole, in training mode.
        likelihood: ``"categorical"`` (logits), ``"bernoulli"`` (logits) or ``"normal"`` (means with
            unit variance), over the last dimension of the output.
        lr: Learning rate.
        damping: λ, added to the Fisher.
        momentum: μ, heavy ball on the natural gradient.
        weight_decay: η, L2: η θ is added to the gradient and η to the damping. For the parameters
            of AdamW it is its decoupled weight decay.
        factor_decay: Largest weight of the old factors in their moving average.
        factor_interval: Steps from one update of the factors to the next; each of the first 10
            steps updates them.
        inverse_interval: Steps from one inversion to the next; ``None``: with each factor update. A
            changed damping always inverts anew.
        kl_clip: Largest ``lr² vᵀg`` of one natural gradient, twice its KL divergence; ``None``: no
            limit.
        fisher: ``"mc"``: labels drawn from the model. ``"type2"``: the output Hessian's exact root,
            so that the Fisher is the generalised Gauss–Newton matrix; costs C backward passes.
        mc_samples: Labels drawn for each row.
        fallback_lr: Learning rate of AdamW.
        exclude: Names of modules to leave to AdamW.
        seed: Of the private generator that draws the labels.

    Raises:
        InvalidInputError: If an argument breaks its rule or no module can be covered.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        likelihood: Likelihood,
        lr: float = 0.1,
        damping: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        factor_decay: float = 0.95,
        factor_interval: int = 5,
        inverse_interval: int | None = None,
        kl_clip: float | None = None,
        fisher: Fisher = "mc",
        mc_samples: int = 1,
        fallback_lr: float = 1e-3,
        exclude: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        settings = {
            "lr": lr,
            "damping": damping,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "kl_clip": kl_clip,
            "factor_decay": factor_decay,
            "factor_interval": factor_interval,
            "inverse_interval": inverse_interval,
        }
        check_settings(settings | {"fallback_lr": fallback_lr, "mc_samples": mc_samples})
        check_choice("likelihood", likelihood, get_args(Likelihood))
        check_choice("fisher", fisher, get_args(Fisher))
        self._layers, self._coverage = examine(model, exclude)
        self._closed = False
        covered = [p for layer in self._layers for p in layer.parameters]
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": covered, **settings}], defaults)
        self._fallback = _fallback(model, covered, fallback_lr, weight_decay)
        if self._fallback is not None:
            self.add_param_group(self._fallback.param_groups[0])
        self._closed = True
        self._generator = torch.Generator(covered[0].device).manual_seed(seed)
        fisher_of_outputs = OutputFisher(likelihood, fisher, mc_samples, self._generator)
        self._capture = Capture(model, self._layers, fisher_of_outputs, self._update_is_due)
        self._common["generator"] = self._generator.get_state()

    def coverage(self) -> Coverage:
        """What K-FAC trains, and what AdamW trains and why."""
        return self._coverage

    def remove_hooks(self) -> None:
        """Take the hooks off the model; the factors are not updated any more."""
        self._capture.remove()

    # torch declares two overloads; this is the union of them
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Evaluates the loss and its gradients anew; not needed.

        Returns:
            The closure's loss, if there is one.

        Raises:
            DivergedError: If a gradient, a factor or the closure's loss is not finite; the
                parameters are left as they were.
            InvalidInputError: If no forward pass in training mode came first.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            fresh = self._capture.take()
            self._check_finite(loss, fresh)
            self._update_factors(fresh)
            blocks = self._blocks()
            self._update_inverses(blocks)
            self._move(blocks)
        self._step_fallback()
        self._count_step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue bit by bit after the last step that was taken before ``state_dict()``.

        torch casts floating state to the parameter's precision; the factors keep at least float32.
        """
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        index_of = dict(zip(self._parameters(), saved, strict=True))
        for layer in self._layers:
            original = state_dict["state"].get(index_of[layer.weight], {})
            self.state[layer.weight] = _owned(original, layer.weight)
        self._generator.set_state(self._common["generator"])
        self._capture.take()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: the groups follow from the model."""
        if getattr(self, "_closed", False):
            raise InvalidInputError(
                "the parameter groups of KFAC follow from its model, got a further group; "
                "build a new KFAC for the changed model"
            )
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("KFAC cannot be copied or pickled with its hooks; save its state_dict()")

    @property
    def _settings(self) -> dict[str, Any]:
        return self.param_groups[0]

    @property
    def _common(self) -> dict[str, Any]:
        """State that belongs to no layer (counter, generator), kept with the first one."""
        return cast(dict[str, Any], self.state[self._layers[0].weight])

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _check_finite(self, loss: float | None, fresh: dict[Layer, Moments]) -> None:
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        moments = [m for new in fresh.values() for m in (new.inputs, new.outputs)]
        if loss is not None and not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss}; lower lr or raise the damping")
        for name, tensors in (("gradient", gradients), ("Kronecker factor", moments)):
            if tensors and not nn.utils.get_total_norm(tensors).isfinite():
                raise DivergedError(
                    f"a {name} is not finite; no parameter was changed; "
                    "lower lr or raise the damping"
                )
        if not gradients and not any(self._has_factors(layer) for layer in self._layers):
            raise InvalidInputError(
                "step() needs gradients and a forward pass in training mode, got neither; "
                "call model.train(), loss(model(x), y).backward() first"
            )

    def _update_factors(self, fresh: dict[Layer, Moments]) -> None:
        for layer, moments in fresh.items():
            state = self.state[layer.weight]
            update = state["factor_updates"] = state.get("factor_updates", 0) + 1
            new_weight = 1 - average_weight(update, self._settings["factor_decay"])
            for key, new in zip(("input_factor", "output_factor"), moments.factors(), strict=True):
                if key in state:
                    state[key].lerp_(new, new_weight)
                else:
                    state[key] = new

    def _blocks(self) -> list[_Block]:
        decay = self._settings["weight_decay"]
        trained = [layer for layer in self._layers if layer.weight.grad is not None]
        for layer in trained:
            if not self._has_factors(layer):
                raise InvalidInputError(
                    f"module {layer.name!r} has a gradient but no Kronecker factors: no forward "
                    "pass of the whole model in training mode led through it to the output; call "
                    "the model that KFAC was given, after model.train(), or leave the module to "
                    f"AdamW with exclude=[{layer.name!r}]"
                )
        return [_Block(layer, _gradient_matrix(layer, decay)) for layer in trained]

    def _update_inverses(self, blocks: Sequence[_Block]) -> None:
        damping = self._settings["damping"] + self._settings["weight_decay"]
        for block in blocks:
            state = self.state[block.layer.weight]
            if not self._inverse_is_due(state, damping):
                continue
            try:
                metric = damped_metric(state["input_factor"], state["output_factor"], damping)
            except NumericalError as error:
                raise DivergedError(
                    f"the factors of module {block.layer.name!r} cannot be inverted: {error}"
                ) from error
            state["input_inverse"] = metric.input_inverse
            state["output_inverse"] = metric.output_inverse
            state["inverse_of"] = (state["factor_updates"], damping)

    def _inverse_is_due(self, state: dict[str, Any], damping: float) -> bool:
        update, old_damping = state.get("inverse_of", (0, None))
        if old_damping != damping:
            return True
        interval = self._settings["inverse_interval"]
        on_time = interval is None or self._common.get("steps", 0) % interval == 0
        return on_time and bool(update != state["factor_updates"])

    def _move(self, blocks: Sequence[_Block]) -> None:
        natural = [self._natural(block) for block in blocks]
        scale = self._clip(blocks, natural)
        for block, direction in zip(blocks, natural, strict=True):
            update = self._with_momentum(block.layer, direction, scale)
            _apply(block.layer, update, self._settings["lr"])

    def _natural(self, block: _Block) -> Tensor:
        state = self.state[block.layer.weight]
        metric = KroneckerMetric(state["input_inverse"], state["output_inverse"])
        return metric.natural(block.gradient)

    def _clip(self, blocks: Sequence[_Block], natural: Sequence[Tensor]) -> float:
        clip = self._settings["kl_clip"]
        if clip is None or not blocks:
            return 1.0
        pairs = zip(blocks, natural, strict=True)
        slope = torch.stack([(block.gradient * v).sum() for block, v in pairs]).sum()
        return kl_clip_factor(clip, float(self._settings["lr"]), slope.item())

    def _with_momentum(self, layer: Layer, direction: Tensor, scale: float) -> Tensor:
        momentum = self._settings["momentum"]
        state = self.state[layer.weight]
        if scale != 1.0:
            direction = direction * scale
        if "momentum_buffer" in state:
            direction = state["momentum_buffer"].mul_(momentum).add_(direction)
        elif momentum > 0:
            state["momentum_buffer"] = direction
        return direction

    def _step_fallback(self) -> None:
        if self._fallback is not None:
            self._fallback.param_groups = self.param_groups[1:]
            self._fallback.state = self.state
            self._fallback.step()

    def _count_step(self) -> None:
        self._common["steps"] = self._common.get("steps", 0) + 1
        self._common["generator"] = self._generator.get_state()

    def _update_is_due(self) -> bool:
        """Whether the next step updates the factors: on time, or for a layer that has none yet."""
        steps = self._common.get("steps", 0)
        on_time = steps < _EARLY_STEPS or steps % self._settings["factor_interval"] == 0
        trained = [layer for layer in self._layers if layer.weight.requires_grad]
        return on_time or not all(self._has_factors(layer) for layer in trained)

    def _has_factors(self, layer: Layer) -> bool:
        return "input_factor" in self.state.get(layer.weight, {})


def _fallback(
    model: nn.Module, covered: Sequence[Tensor], lr: float, weight_decay: float
) -> torch.optim.AdamW | None:
    """AdamW for the parameters that are not covered; ``None`` if there are none."""
    known = set(covered)
    rest = [p for p in model.parameters() if p not in known]
    return torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay) if rest else None


def _gradient_matrix(layer: Layer, weight_decay: float) -> Tensor:
    """Gradient of the layer with the L2 term, bias column last, shape ``(d_out, d_in)``."""
    columns = [_gradient(p, weight_decay).reshape(p.shape[0], -1) for p in layer.parameters]
    return torch.cat(columns, 1) if len(columns) > 1 else columns[0]


def _gradient(parameter: Tensor, weight_decay: float) -> Tensor:
    """Gradient with the L2 term, in at least float32; 0 where there is none."""
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    if parameter.grad is None:
        return torch.zeros_like(parameter, dtype=dtype)
    gradient = parameter.grad.to(dtype)
    return gradient.add(parameter, alpha=weight_decay) if weight_decay else gradient


def _apply(layer: Layer, update: Tensor, lr: float) -> None:
    """Move the parameters of the layer by ``−lr·update``, shape ``(d_out, d_in)``."""
    weight = layer.weight
    inputs = weight[0].numel()
    weight.add_(update[:, :inputs].reshape(weight.shape), alpha=-lr)
    for bias in layer.parameters[1:]:
        if bias.grad is not None:
            bias.add_(update[:, inputs], alpha=-lr)


def _owned(saved: dict[str, Any], weight: Tensor) -> dict[str, Any]:
    """A copy of a layer's saved state on the weight's device, in at least float32."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    owned: dict[str, Any] = {}
    for key, value in saved.items():
        if not isinstance(value, Tensor):
            owned[key] = value
        elif value.is_floating_point():
            owned[key] = value.detach().to(weight.device, dtype, copy=True)
        else:
            owned[key] = value.cpu().clone()
    return owned
