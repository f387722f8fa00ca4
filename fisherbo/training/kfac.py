"""K-FAC as a `torch.optim.Optimizer`: natural-gradient steps with Kronecker-factored curvature.

Symbols: A, G Kronecker factors; λ damping, η weight decay; g gradient with the L2 term; v = F⁻¹g.

By default a step is scaled by the second moments of the gradient in the factors' eigenbasis, and
its KL divergence limits its length (`fisherbo.training.second_moments`). Else, with the Fisher,

    v ← μ v + ν F⁻¹ g,    θ ← θ − lr·v,    F = (A + π√(λ+η) I) ⊗ (G + √(λ+η)/π I)

(Martens & Grosse 2015), or F = Q (diag(s) + (λ+η) I) Qᵀ in the eigenbasis Q of the factors, with
the factors' eigenvalues or those of EKFAC (George et al. 2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import adaptation, update
from fisherbo.training.blocks import Scheme, State, average, owned
from fisherbo.training.capture import Capture
from fisherbo.training.checkpoint import continue_generator
from fisherbo.training.coverage import Coverage, Layer, examine
from fisherbo.training.defaults import DEFAULTS, filled, scalars, second_moment_of, unset
from fisherbo.training.fallback import Fallback
from fisherbo.training.forms import MAX_FACTOR_SIZE
from fisherbo.training.groups import parameter_groups
from fisherbo.training.guards import check_finite, remedy, unscale
from fisherbo.training.hooks import check_copied, copied_state, remove_idle_hooks
from fisherbo.training.layer_state import (
    COMMON,
    check_saved,
    common_of,
    initial_state,
    is_adamws,
    is_allocated,
    left_state,
    trained_state,
    without_common,
)
from fisherbo.training.likelihoods import Likelihood, LikelihoodFunction, check_likelihood
from fisherbo.training.moments import Moments, Sharing
from fisherbo.training.output_fisher import Fisher, OutputFisher
from fisherbo.training.parameters import ModelParameters, check_model
from fisherbo.training.plan import StepReport, fixed_plan, model_plan, moment_plan, require_maps
from fisherbo.training.processes import rank_and_size, sum_moments, sums
from fisherbo.training.quadratic import Linearised
from fisherbo.training.settings import check_choice, check_settings
from fisherbo.training.update import Block, weights_of

Schedule = Callable[[int], float]
"""Number of steps taken to a damping."""

_GROWTH = 10  # the curvature changes fast at first: an interval is at most 1/10 of the steps taken
_USED_OUTSIDE = (
    "the model also uses its weight without calling the module, and the sum of both uses is no "
    "Kronecker product"
)
_PATIENCE = 20  # steps in a row that may be taken back


class KFAC(torch.optim.Optimizer):
    """Kronecker-factored approximate curvature for the modules of a network.

    Covered are Linear, Conv1d to Conv3d (groups: a block each), Embedding, MultiheadAttention
    (query, key, value and output: a block each) and the weight and bias of LayerNorm, RMSNorm,
    GroupNorm and BatchNorm (an exact block for each unit); modules called several times, and
    modules of one kind with one weight, are one block. All else, such as LSTM and GRU, is trained
    by `torch.optim.AdamW`; `coverage` tells what and why. A weight that the model also uses without
    calling its module, as in ``F.linear(h, embedding.weight)``, is left to AdamW at the first step,
    with a warning; it stays in its parameter group.

    A factor A or G is dense up to ``max_factor_size``; beyond it, it is block-diagonal. `coverage`
    names the wide layers.

    The loop is the usual one: ``zero_grad; loss(model(x), y).backward(); step()``. Hooks on the
    model collect what the factors need in both passes. Rows are the first dimension of the
    model's output, and of each module's input. The Fisher is that of ``−log p(y | z)``, summed over
    the entries of the model's output ``z`` that one distribution is over and averaged over the rows
    and positions that the loss uses; a loss that is scaled in another way (``MSELoss`` is 2/C of
    it) is the same method with another ``lr``, but for ``quadratic_model`` and
    ``adaptive_damping``, which need that very loss.

    ``param_groups[0]`` and those of ``groups`` hold what K-FAC trains; ``lr``, ``damping``,
    ``momentum`` and ``weight_decay`` may be changed there at any time, by a scheduler or by hand,
    the other settings in ``param_groups[0]``. The last group, if not all is covered, is AdamW's;
    its ``lr`` is one of K-FAC too, and AdamW's is ``lr * adamw_ratio``, so that schedulers which
    write one value into all groups (OneCycleLR, CyclicLR) change both in proportion.

    The loss uses a row if its gradient by ``z`` is not exactly 0: rows that ``ignore_index``, a
    mask or a weight of 0 leaves out do not count, nor do masked entries of targets that are
    independent. Weights of rows or classes, smoothed labels and losses such as Huber's leave the
    Fisher of the likelihood as it is, without weights; only the empirical one has them. Passes
    count if a backward pass comes to their outputs, until `zero_grad`, `step` or a change of the
    weights by another optimizer. A module that gets no rows keeps its factors.

    Under `torch.amp.GradScaler` and `torch.distributed` nothing is to be done. Several processes
    sum their factors, and each inverts a share of them, which makes inversions, the dearest part of
    a step of wide layers, faster by about their number; all take the same step, to the bit.

    The model may be frozen and unfrozen in part at any time; layers have no state before they are
    trained. Other changes of its parameters (pruning, a parametrization, ``to(device)``, another
    head) come before KFAC is built. ``copy.deepcopy`` and pickle copy the model along, so that
    ``copy.deepcopy((model, optimizer))`` is a pair that continues to the bit; in skorch, override
    ``initialize_optimizer`` to build KFAC of ``self.module_``.

    Args:
        model: The network; it must be called as a whole.
        likelihood: ``"categorical"`` (logits), ``"bernoulli"`` (logits), ``"normal"`` (means with
            unit variance) or ``"heteroscedastic_normal"`` (means, then as many log variances, for
            ``gaussian_nll_loss``); or a function from outputs, shape ``(rows, C)``, to a
            `torch.distributions.Distribution` of each row. ``fisher="type2"`` and the quadratic
            model need a family whose KL divergence torch knows.
        class_dim: The dimension of the output that a distribution is over. Default: the last one,
            or for categorical outputs of more than two dimensions the one that the gradient of the
            loss sums to 0 over (the last one, or 1 as in ``cross_entropy``).
        lr: Learning rate. With the gradient's moments it is one of Adam's kind, the largest move of
            a weight in the eigenbasis; .02, which the KL limit lowers where outputs react strongly,
            held for all networks that were tried, so that it is the last thing to tune. With the
            Fisher .1 (tuned on full batches, .05 to 1.6). 0, as at the start of a warm-up, moves
            nothing; a schedule that lowers it shortens the steps in proportion.
        momentum: μ. Weight of the old mean gradient, or the heavy ball on the natural gradient.
        kl_clip: c, twice the KL divergence in nats that a step may have; ``None``: no limit. With
            the gradient's moments it is that of a step along one batch's gradient, and the step's
            own divergence is the less the more gradients are noise; "auto" is .02. With the Fisher
            it is ``lr² vᵀg`` of one natural gradient, before momentum; "auto" is .001, and no limit
            with ``quadratic_model`` and ``adaptive_damping``, which find the length themselves.
            Both are for each scalar that the likelihood draws: C of them in a row of ``bernoulli``
            or ``normal``. Raise it for large batches and short runs, lower it for small batches.
        second_moment: What scales a step in the eigenbasis of the factors. ``"gradient"``: the root
            of the moving mean square of the batches' gradients, as in Adam and SOAP; best for
            minibatches, and the default. ``"fisher"``: the damped Fisher itself, K-FAC as it was
            published; better for full batches and ill-conditioned networks such as autoencoders.
            ``"auto"``: ``"fisher"`` if ``damping``, ``exact_damping``, ``eigen_correction``,
            ``adaptive_damping`` or ``quadratic_model`` is given, which only that has.
        second_moment_decay: Weight of the old mean square; .9 to .99 train a small GPT alike.
        damping: λ, added to the Fisher, .01 by default; or a function of the number of steps taken.
            Noise asks for more: raise it for small batches, lower it for full ones.
        weight_decay: η. For the parameters of AdamW it is its decoupled weight decay.
        decoupled_weight_decay: Whether θ shrinks by lr·η·θ, the default with the gradient's
            moments; else η is L2: η θ is added to the gradient and η to the damping.
        factor_decay: Largest weight of the old factors in their moving average.
        factor_interval: Steps from one update of the factors to the next, or a tenth of the steps
            taken if that is less: curvature changes fast at first. Default: 20, and 5 with the
            Fisher, whose inverses must follow it more closely.
        inverse_interval: Steps from one inversion to the next; ``None``: with each factor update. A
            changed damping inverts anew, unless damping is exact, where it costs nothing.
        fisher: ``"mc"``: labels drawn from the model. ``"type2"``: the output Hessian's exact root,
            so that the Fisher is the generalised Gauss–Newton matrix; costs C backward passes.
            ``"empirical"``: the gradients of the loss itself, which is no Fisher.
        mc_samples: Labels drawn for each row.
        loss_reduction: ``"mean"`` or ``"sum"`` over all rows between two steps; read for
            ``fisher="empirical"`` only.
        weight_sharing: How a weight that is shared over positions is treated, ``"expand"`` or
            ``"reduce"`` (Eschenhagen et al. 2023).
        exact_damping: ``A ⊗ G + λ I`` in place of the factors damped by π.
        eigen_correction: EKFAC; damping is exact.
        max_factor_size: Largest dense factor. A wider side of a layer has equal blocks of at most
            this size and at most the size of the other side (256 inputs or 128 outputs are allowed
            whatever the other side), so that a factor takes little more memory than the weight. 1:
            diagonal factors, which diverge on autoencoders without ``kl_clip``.
        adaptive_damping: λ by Levenberg–Marquardt (M&G 2015, § 6.5). `step` needs a closure, whose
            loss is evaluated once more every ``adaptation_interval`` steps; a step after which it
            is not finite or greater where less was predicted is taken back.
        adaptation_interval: T.
        adaptation_decay: ω, λ changes by ω^±T. M&G use .95; from λ = 5 the digits autoencoder
            then takes half as many steps again to its target as with .9.
        quadratic_model: lr and μ minimise the exact quadratic model at each step (M&G 2015, § 7);
            those of the groups are not used.
        recover: Take the last step back and raise λ where a gradient, loss or factor is not finite,
            instead of raising `DivergedError`; keeps a copy of the covered weights.
        groups: Further groups: ``{"modules": [names], "lr": ..., "damping": ..., "momentum": ...,
            "weight_decay": ...}``.
        fallback_lr: Learning rate of AdamW at this ``lr`` (at its default where ``lr`` is 0).
            Default: .02, limited as K-FAC's, with the gradient's moments; .001 with the Fisher.
        exclude: Names of modules to leave to AdamW.
        distributed: Whether the processes of the default group, if there is one, train this model
            together.
        seed: Of the private generator that draws the labels.

    Raises:
        InvalidInputError: If an argument breaks its rule or no module can be covered.
    """

    _step_supports_amp_scaling = True  # GradScaler hands over its scale and what it found

    def __init__(
        self,
        model: nn.Module,
        *,
        likelihood: Likelihood | LikelihoodFunction,
        class_dim: int | None = None,
        lr: float | None = None,
        momentum: float = 0.9,
        kl_clip: float | Literal["auto"] | None = "auto",
        second_moment: Literal["auto", "gradient", "fisher"] = "auto",
        second_moment_decay: float = 0.95,
        damping: float | Schedule | None = None,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool | None = None,
        factor_decay: float = 0.95,
        factor_interval: int | None = None,
        inverse_interval: int | None = None,
        fisher: Fisher = "mc",
        mc_samples: int = 1,
        loss_reduction: Literal["mean", "sum"] = "mean",
        weight_sharing: Sharing = "expand",
        exact_damping: bool = False,
        eigen_correction: bool = False,
        max_factor_size: int = MAX_FACTOR_SIZE,
        adaptive_damping: bool = False,
        adaptation_interval: int = 5,
        adaptation_decay: float = 0.9,
        quadratic_model: bool = False,
        recover: bool = False,
        groups: Sequence[Mapping[str, Any]] = (),
        fallback_lr: float | None = None,
        exclude: Collection[str] = (),
        distributed: bool = True,
        seed: int = 0,
    ) -> None:
        check_model("KFAC", model)
        only_damped = {
            "damping": damping is not None or any("damping" in group for group in groups),
            "exact_damping": exact_damping,
            "eigen_correction": eigen_correction,
            "adaptive_damping": adaptive_damping,
            "quadratic_model": quadratic_model,
        }
        moment = second_moment_of(second_moment, [n for n, given in only_damped.items() if given])
        own = DEFAULTS[moment]
        schedule = damping if callable(damping) else None
        if schedule is not None and adaptive_damping:
            raise InvalidInputError(
                "damping must be a number where adaptive_damping changes it, got a schedule; "
                "choose one of the two"
            )
        given = {
            "lr": lr,
            "damping": schedule(0) if schedule else damping,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "kl_clip": kl_clip,
            "second_moment_decay": second_moment_decay,
            "factor_decay": factor_decay,
            "factor_interval": factor_interval,
            "inverse_interval": inverse_interval,
            "fallback_lr": fallback_lr,
        }
        settings = filled(own, given)
        check_settings(
            {key: value for key, value in given.items() if key not in unset(own, given)}
            | {"mc_samples": mc_samples, "max_factor_size": max_factor_size}
            | {"adaptation_interval": adaptation_interval, "adaptation_decay": adaptation_decay}
        )
        fallback_lr, lr = settings.pop("fallback_lr"), float(settings["lr"])
        check_likelihood(likelihood)
        check_choice("fisher", fisher, get_args(Fisher))
        check_choice("loss_reduction", loss_reduction, ("mean", "sum"))
        check_choice("weight_sharing", weight_sharing, get_args(Sharing))
        self._examined = examine(model, exclude, int(max_factor_size))
        self._layers, self._coverage = self._examined
        self._first = next((x for x in self._layers if x.weight.requires_grad), self._layers[0])
        self._scheme = Scheme(
            exact_damping or eigen_correction,
            eigen_correction,
            weight_sharing,
            gradient_moments=moment == "gradient",
        )
        self._defaults = own
        self._schedule = schedule
        self._adaptive, self._quadratic = adaptive_damping, quadratic_model
        self._adaptation = (adaptation_decay, adaptation_interval)
        self._recover, self._keeps_weights = recover, recover or adaptive_damping
        self._model = model
        self._model_parameters = ModelParameters(model)
        self._weight_of = {layer: layer.weight for layer in self._layers}
        self._closed = False
        found, self._group_of = parameter_groups(self._layers, settings, groups)
        for group in found:
            group["reference_lr"] = group["lr"] or own.lr
        super().__init__(found, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._fallback = Fallback(
            model, self._parameters(), float(fallback_lr), weight_decay, lr, own.lr
        )
        for group in self._fallback.groups:
            self.add_param_group(group)
        self._own_groups = len(found)
        self._closed = True
        self._initialise(seed)
        self._distributed = distributed
        self._fisher = OutputFisher(
            likelihood,
            fisher,
            mc_samples,
            self._generator,
            loss_reduction,
            class_dim=class_dim,
        )
        self._watch()
        self._report = StepReport(float(settings["damping"]), lr, momentum, 0.0, 0.0)

    def coverage(self) -> Coverage:
        """What K-FAC trains, and what AdamW trains and why.

        A layer whose weight the model also uses without calling it is left to AdamW at the first
        step, which warns of it.
        """
        return self._coverage

    @property
    def last_step(self) -> StepReport:
        """Damping, v·g, KL divergence, ρ and more of the last step."""
        return self._report

    @property
    def recovers(self) -> bool:
        """Whether a step that is not finite is taken back instead of raising."""
        return self._recover

    def remove_hooks(self) -> None:
        """Take the hooks off the model; the factors are not updated any more."""
        self._hooked = False
        self._capture.remove()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, and forget the passes that they came from."""
        super().zero_grad(set_to_none)
        self._capture.forget()

    # torch declares two overloads; this is the union of them
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Evaluates the loss and its gradients anew; needed with ``adaptive_damping``.

        Returns:
            The closure's loss, if there is one.

        Raises:
            DivergedError: If a gradient, a factor or the closure's loss is not finite; the
                parameters are left as they were. With ``recover``: if that happens 20 times in a
                row.
            InvalidInputError: If no forward and backward pass came first, or the model has
                other parameters than KFAC was built with.

        Warns:
            UserWarning: If the factors are due and no forward pass was watched.
        """
        self._model_parameters.check("KFAC")
        if self._adaptive and closure is None:
            raise InvalidInputError(
                "adaptive_damping compares losses and needs step(closure), got no closure; pass "
                "one that calls zero_grad, computes the loss, calls backward and returns the loss"
            )
        before = adaptation.situation(self._model) if self._ratio_is_due() else None
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            scale = unscale(
                getattr(self, "found_inf", None),
                getattr(self, "grad_scale", None),
                self._parameters(),
                needed=self._fisher.kind == "empirical",
            )
            if scale is None:  # GradScaler found an overflow
                self._capture.forget()
                return loss
            try:
                self._advance(loss, scale, closure, before)
            except DivergedError:
                if not self._recover:
                    raise
                self._take_back()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue bit by bit after the last step that was taken before ``state_dict()``.

        torch casts floating state to the parameter's precision; the factors keep at least float32.

        Raises:
            InvalidInputError: If the state is of a KFAC with other options or another model.
        """
        self._fallback.check(state_dict["param_groups"][-1])
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        index_of = dict(zip(self._parameters(), saved, strict=False))
        of = state_dict["state"]
        found = {x: of.get(index_of.get(weight), {}) for x, weight in self._weight_of.items()}
        first = check_saved(found, self._scheme, self._keeps_weights)
        self._leave([layer for layer, state in found.items() if is_adamws(state)])
        fresh = {layer: without_common(self._state(layer)) for layer in found}
        super().load_state_dict(state_dict)
        for layer, state in found.items():  # torch may have cast what is not AdamW's
            weight = self._weight_of[layer]
            if is_adamws(state):
                self._state(layer).update(owned(common_of(state), weight))
            else:
                self.state[weight] = owned(state, weight) if state else fresh[layer]
        self._first = first
        continue_generator(self._generator, self._common["generator"])
        self._capture.forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: the groups follow from the model."""
        if getattr(self, "_closed", False):
            raise InvalidInputError(
                "the parameter groups of KFAC follow from its model, got a further group; "
                "pass groups=[...] to a new KFAC"
            )
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """All but the hooks, the model included; the generator by its state after the last step."""
        fisher = replace(self._fisher, generator=cast(torch.Generator, None))
        return copied_state(self, "_capture", "_generator") | {"_fisher": fisher}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set all, and watch the model that was copied along."""
        super().__setstate__(state)
        if "_model" in state:  # torch calls this for a loaded state_dict too
            check_copied("KFAC", self._model)
            self._generator = torch.Generator(self._layers[0].weight.device)
            continue_generator(self._generator, self._common["generator"])
            self._fisher = replace(self._fisher, generator=self._generator)
            hooked = self._hooked
            self._watch()
            if not hooked:
                self.remove_hooks()

    @property
    def needs_closure(self) -> bool:
        """Whether `step` needs a closure."""
        return self._adaptive

    @property
    def _settings(self) -> dict[str, Any]:
        return self.param_groups[0]

    @property
    def _common(self) -> State:
        """State that belongs to no layer (counter, generator), kept with one that was trained."""
        return self._state(self._first)

    def _state(self, layer: Layer) -> State:
        return cast(State, self.state[self._weight_of[layer]])

    def _group(self, layer: Layer) -> dict[str, Any]:
        return self.param_groups[self._group_of[layer]]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _watch(self) -> None:
        """Put the hooks on the model."""
        self._rank, self._processes = rank_and_size(self._distributed)
        self._fisher = replace(self._fisher, rank=self._rank, processes=self._processes)
        remove_idle_hooks(self._model)
        self._capture = Capture(
            self._model,
            self._examined[0],
            self._fisher,
            self._update_is_due,
            missing=self._missing,
            watched=self._model_parameters.watched,
            sharing=self._scheme.sharing,
            keep=self._scheme.eigen_correction,
            linearised=self._model_is_due,
        )
        self._capture.drop(set(self._weight_of) - set(self._layers))
        self._hooked = True

    def _initialise(self, seed: int) -> None:
        """All state that the trained layers will ever have: checkpoints are of one form."""
        self._generator = torch.Generator(self._layers[0].weight.device).manual_seed(seed)
        for layer in self._layers:
            self.state.update(initial_state(layer, self._scheme, self._keeps_weights))
        self._common.update(steps=0, setbacks=0, damping_factor=1.0, outputs=1, last_update=0)
        self._common["generator"] = self._generator.get_state()
        self.state.update(self._fallback.initial_state())

    def _prepare(self, layers: Collection[Layer]) -> None:
        """Give state to layers that were frozen before; keep the common one with a trained layer.

        Distributed checkpoints leave out what is frozen.
        """
        for layer in layers:
            state = self._state(layer)
            if not is_allocated(state):
                empty = trained_state(layer, self._scheme, self._keeps_weights)
                state.update({key: empty[key] for key in empty.keys() - state.keys()})
        if not self._first.weight.requires_grad:
            common = {key: self._common.pop(key) for key in COMMON}
            trained = (layer for layer in self._layers if layer.weight.requires_grad)
            self._first = next(trained, self._first)
            self._common.update(common)

    def _leave(self, left: Collection[Layer]) -> None:
        """Leave layers to AdamW after all, and no others; they keep their groups."""
        first, coverage = self._examined
        kept = tuple(layer for layer in first if layer not in left)
        if not kept:
            raise InvalidInputError(
                "the model uses the weights of all covered modules without calling them, so that "
                "nothing is left to K-FAC; use torch.optim.AdamW for it"
            )
        self._layers = kept
        for layer in first:
            state = self._state(layer)
            if (layer in left) != is_adamws(state):
                fresh = left_state(layer)
                if layer not in left:
                    fresh = initial_state(layer, self._scheme, self._keeps_weights)
                self.state.update(fresh)
                self._state(layer).update(common_of(state))
            if layer in left:
                coverage = coverage.without(layer, _USED_OUTSIDE)
        self._coverage = coverage
        self._fallback.take([p for x in first if x in left for p in x.parameters])
        self._capture.drop(left)

    def _leave_exposed(self, exposed: Sequence[Layer]) -> None:
        """Leave the layers to AdamW whose weights the last passes used besides their modules."""
        if exposed:
            names = ", ".join(repr(layer.name) for layer in exposed)
            warnings.warn(f"AdamW trains {names}: {_USED_OUTSIDE}", stacklevel=5)
            self._leave({*self._weight_of} - {*self._layers} | {*exposed})

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
        width = [float(self._capture.outputs), float(self._capture.outputs > 0)]
        mean = loss
        if self._processes > 1:
            number = 0.0 if loss is None else adaptation.number(loss)
            flags = [float(layer in exposed) for layer in self._layers]
            found = sums([*width, number, float(not maps), *flags], self._generator.device)
            width, (total, without_maps), flags = found[:2], found[2:4], found[4:]
            maps = [] if without_maps else maps  # so that all raise
            mean = None if loss is None else total / self._processes
            exposed = [x for x, flag in zip(self._layers, flags, strict=True) if flag]
        if width[1]:
            self._common["outputs"] = round(width[0] / width[1])
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
        clip = self._settings["kl_clip"]
        if clip == "auto" and (self._quadratic or self._adaptive):
            return None  # these choose the length by what the loss does
        if clip == "auto":
            width = scalars(self._fisher.likelihood, self._common["outputs"])
            clip = self._defaults.kl_clip * width
        if clip is None or not self._scheme.gradient_moments:
            return cast(float | None, clip)
        return float(clip) / float(self._common["damping_factor"])

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
        return bool(since >= min(self._settings["factor_interval"], steps / _GROWTH))

    def _missing(self) -> list[Layer]:
        """The trained layers without factors, which the first pass through them brings."""
        trained = (layer for layer in self._layers if layer.weight.requires_grad)
        return [layer for layer in trained if not self._has_factors(layer)]

    def _ratio_is_due(self) -> bool:
        """Whether the next step measures ρ."""
        return self._adaptive and (self._common["steps"] + 1) % self._adaptation[1] == 0

    def _model_is_due(self) -> bool:
        """Whether the next step evaluates the quadratic model."""
        return self._quadratic or self._ratio_is_due()

    def _has_factors(self, layer: Layer) -> bool:
        return bool(self._state(layer)["factor_updates"])
