"""A step of K-FAC: what the passes brought moves the weights; a bad step is taken back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import adaptation, update
from fisherbo.training.blocks import average
from fisherbo.training.coverage import Layer
from fisherbo.training.defaults import Defaults, scalars
from fisherbo.training.guards import check_finite, remedy
from fisherbo.training.layer_state import is_allocated
from fisherbo.training.layerwise import LayerwiseOptimizer
from fisherbo.training.moments import Moments
from fisherbo.training.output_fisher import OutputFisher
from fisherbo.training.plan import StepReport, fixed_plan, model_plan, moment_plan, require_maps
from fisherbo.training.processes import sum_moments, sums
from fisherbo.training.quadratic import Linearised
from fisherbo.training.settings import check_settings
from fisherbo.training.update import Block, weights_of

Schedule = Callable[[int], float]
"""Number of steps taken to a damping."""

_PATIENCE = 20  # steps in a row that may be taken back


class NaturalDescent(LayerwiseOptimizer):
    """Natural-gradient steps on the covered layers.

    `fisherbo.training.kfac.KFAC` sets the attributes that are declared here; most are its options.
    """

    _defaults: Defaults
    _schedule: Schedule | None
    _adaptive: bool
    _quadratic: bool
    _adaptation: tuple[float, int]
    _fisher: OutputFisher
    _rank: int
    _processes: int
    _report: StepReport

    def _advance(
        self,
        loss: float | None,
        scale: float,
        closure: Callable[[], float] | None,
        before: adaptation.Situation | None,
    ) -> None:
        fresh = self._capture.take(scale)
        mean, maps, exposed = self._agreed(loss)
        self._leave_exposed(exposed)
        trained = [x for x in self._layers if any(p.grad is not None for p in x.parameters)]
        fresh = {layer: fresh[layer] for layer in self._layers if layer in fresh}
        if self._processes > 1:
            rows = self._capture.rows
            fresh = sum_moments(self._layers, fresh, rows, trained, self._processes)
        watched = bool(fresh)
        fresh = {layer: moments for layer, moments in fresh.items() if not moments.empty}
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        check_finite(mean, gradients, fresh.values(), self._settings)
        if not gradients and not any(map(self._has_factors, self._layers)):
            raise InvalidInputError(
                "step() needs gradients and a forward pass of the whole model, got neither; "
                "call loss(model(x), y).backward() first"
            )
        self._prepare({*fresh, *trained})
        blocks = self._refresh(fresh, trained)
        penalty = update.squared_norm(blocks) if before is not None else 0.0
        predicted = self._move(blocks, maps)
        if before is not None and closure is not None and loss is not None and blocks:
            with self._capture.paused():
                new = adaptation.reevaluated(closure, before, self._parameters())
            grown = 0.5 * (update.squared_norm(blocks) - penalty)
            self._judge(blocks, new - adaptation.number(loss) + grown, predicted)
        share = self._report.clip if self._scheme.gradient_moments else 1.0
        self._fallback.step(self.param_groups, self.state, share)
        if blocks and not watched and self._update_is_due():
            warnings.warn(
                f"no forward pass was watched before step {self._common['steps'] + 1}, at which "
                "the Kronecker factors are due; the step uses old ones; call the "
                "whole model that KFAC was given",
                stacklevel=4,
            )
        self._common["setbacks"] = 0
        self._common["steps"] += 1
        self._common["generator"] = self._generator.get_state()

    def _agreed(self, loss: float | None) -> tuple[float | None, list[Linearised], Sequence[Layer]]:
        """The mean loss, the maps and the exposed layers, of all processes; all go on alike."""
        maps, exposed = self._capture.take_linearised(), self._capture.take_exposed()
        seen = float(self._capture.outputs > 0)
        scale = [float(self._capture.outputs), seen * self._capture.variance, seen]
        mean = loss
        if self._processes > 1:
            number = 0.0 if loss is None else adaptation.number(loss)
            flags = [float(layer in exposed) for layer in self._layers]
            found = sums([*scale, number, float(not maps), *flags], self._generator.device)
            scale, (total, without_maps), flags = found[:3], found[3:5], found[5:]
            maps = [] if without_maps else maps  # so that all raise
            mean = None if loss is None else total / self._processes
            exposed = [x for x, flag in zip(self._layers, flags, strict=True) if flag]
        if scale[2]:
            self._common["outputs"] = round(scale[0] / scale[2])
            self._common["variance"] = scale[1] / scale[2]
        return mean, maps, exposed

    def _refresh(self, fresh: Mapping[Layer, Moments], trained: Sequence[Layer]) -> list[Block]:
        """Bring λ, factors, inverses and spectra up to date; the blocks that will move."""
        steps, settings = self._common["steps"], self._settings
        if self._schedule is not None:
            damping = self._schedule(steps) * self._common["damping_factor"]
            check_settings({"damping": damping})
            settings["damping"] = damping
        if fresh and self._update_is_due():
            self._common["last_update"] = steps
        for layer, moments in fresh.items():
            average(self._state(layer), moments, settings["factor_decay"])
        blocks = update.moving(
            [update.block_of(x, self._state(x), self._group(x)) for x in trained]
        )
        interval = settings["inverse_interval"]
        on_time = interval is None or steps % interval == 0
        update.factorise_due(blocks, self._scheme, on_time, self._rank, self._processes)
        if self._scheme.eigen_correction:
            update.correct_spectra(blocks, fresh, settings["factor_decay"], self._processes)
        return blocks

    def _move(self, blocks: Sequence[Block], maps: Sequence[Linearised]) -> float:
        """Move the weights; returns M(δ) − M(0), NaN where the quadratic model was not needed."""
        if self._model_is_due() and blocks:
            require_maps(maps)
        limit = self._kl_limit()
        if self._scheme.gradient_moments:
            plan = moment_plan(blocks, self._settings["second_moment_decay"], limit)
        else:
            planned = model_plan if self._quadratic and blocks else fixed_plan
            plan = planned(blocks, self._scheme, limit, maps, self._processes)
        for block, direction, rate in zip(blocks, plan.updates, plan.rates, strict=True):
            if "previous" in block.state:
                block.state["previous"] = weights_of(block.layer)
            update.move(block, direction, rate)
        self._report = plan.report
        return plan.predicted

    def _kl_limit(self) -> float | None:
        """Twice the KL divergence that a step may have; after setbacks, as much less."""
        clip, scaled = self._settings["kl_clip"], self._scheme.gradient_moments
        if clip == "auto" and (self._quadratic or self._adaptive):
            return None  # these choose the length by what the loss does
        if clip is None:
            return None
        limit = self._defaults.kl_clip if clip == "auto" else float(clip)
        if clip == "auto" or scaled:
            width = scalars(self._fisher.likelihood, self._common["outputs"])
            limit *= width * self._common["variance"]
        return limit / float(self._common["damping_factor"]) if scaled else limit

    def _judge(self, blocks: Sequence[Block], actual: float, predicted: float) -> None:
        """Compare h(θ+δ) − h(θ) with its prediction: adapt λ, take the step back if it was bad."""
        if self._processes > 1:
            actual = sums([actual], self._generator.device)[0] / self._processes
        ratio = adaptation.reduction_ratio(actual, predicted)
        for group in self.param_groups[: self._own_groups]:
            group["damping"] = adaptation.adapted(float(group["damping"]), ratio, *self._adaptation)
        if ratio < 0:
            self._restore([block.layer for block in blocks])
        self._report = replace(self._report, ratio=ratio, rejected=ratio < 0)

    def _take_back(self) -> None:
        """Go back to the weights before the last step, with more damping and no momentum."""
        common = self._common
        common["setbacks"] += 1
        if common["setbacks"] > _PATIENCE:
            raise DivergedError(
                f"{_PATIENCE} steps in a row were not finite, although the damping grew; look for "
                f"NaN in the data, or {remedy(self._settings)}"
            )
        self._capture.forget()
        for group in self.param_groups[: self._own_groups]:
            group["damping"] = float(group["damping"]) * adaptation.SETBACK
        common["damping_factor"] *= adaptation.SETBACK
        if common["steps"] > 0:
            trained = [layer for layer in self._layers if layer.weight.requires_grad]
            self._restore([layer for layer in trained if is_allocated(self._state(layer))])
        damping = float(self._settings["damping"])
        self._report = replace(self._report, damping=damping, ratio=None, rejected=True)

    def _restore(self, layers: Sequence[Layer]) -> None:
        for layer in layers:
            state = self._state(layer)
            for name in ("momentum_buffer", "first_moment"):
                if name in state:
                    state[name].zero_()
            for parameter, value in zip(
                layer.parameters, layer.split(state["previous"]), strict=True
            ):
                parameter.copy_(value)

    def _update_is_due(self) -> bool:
        """Whether it is time for the next step to update the factors."""
        steps = self._common["steps"]
        since = steps - self._common["last_update"]
        growing = steps / self._defaults.steps_by_interval
        return bool(since >= min(self._settings["factor_interval"], growing))

    def _ratio_is_due(self) -> bool:
        """Whether the next step measures ρ."""
        return self._adaptive and (self._common["steps"] + 1) % self._adaptation[1] == 0

    def _model_is_due(self) -> bool:
        """Whether the next step evaluates the quadratic model."""
        return self._quadratic or self._ratio_is_due()
