"""K-FAC as a `torch.optim.Optimizer`: natural-gradient steps with Kronecker-factored curvature.

Symbols: A, G Kronecker factors; λ damping, η weight decay; g gradient with the L2 term; v = F⁻¹g.

By default a step is scaled by the second moments of the gradient in the factors' eigenbasis, and
its KL divergence limits its length (`fisherbo.training.second_moments`). Else, with the Fisher,

    v ← μ v + ν F⁻¹ g,    θ ← θ − lr·v,    F = (A + π√(λ+η) I) ⊗ (G + √(λ+η)/π I)

(Martens & Grosse 2015), or F = Q (diag(s) + (λ+η) I) Qᵀ in the eigenbasis Q of the factors, with
the factors' eigenvalues or those of EKFAC (George et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import adaptation
from fisherbo.training.blocks import Scheme
from fisherbo.training.capture import Capture
from fisherbo.training.checkpoint import continue_generator
from fisherbo.training.coverage import Coverage, examine
from fisherbo.training.defaults import DEFAULTS, filled, second_moment_of, unset
from fisherbo.training.descent import NaturalDescent, Schedule
from fisherbo.training.forms import MAX_FACTOR_SIZE
from fisherbo.training.guards import unscale
from fisherbo.training.hooks import check_copied, copied_state, remove_idle_hooks
from fisherbo.training.likelihoods import Likelihood, LikelihoodFunction, check_likelihood
from fisherbo.training.moments import Sharing
from fisherbo.training.output_fisher import Fisher, OutputFisher
from fisherbo.training.parameters import check_model
from fisherbo.training.plan import StepReport
from fisherbo.training.processes import rank_and_size
from fisherbo.training.settings import check_choice, check_settings


class KFAC(NaturalDescent):
    """Kronecker-factored approximate curvature for the modules of a network.

    It covers Linear, Conv1d to Conv3d (groups: a block each), Embedding, MultiheadAttention (query,
    key, value and output: a block each) and the weight and bias of LayerNorm, RMSNorm, GroupNorm
    and BatchNorm (an exact block for each unit); modules called several times, and modules of one
    kind with one weight, are one block. Everything else, such as LSTM and GRU, is trained by
    `torch.optim.AdamW`; `coverage` lists it with the reasons. A weight that the model also uses
    without calling its module, as in ``F.linear(h, embedding.weight)``, is left to AdamW at the
    first step, with a warning; it stays in its parameter group.

    A factor A or G is dense up to ``max_factor_size``; beyond it, it is block-diagonal. `coverage`
    names the wide layers.

    The loop is the usual one: ``zero_grad; loss(model(x), y).backward(); step()``. Hooks on the
    model collect what the factors need in both passes. Rows are the first dimension of the model's
    output, and of each module's input. The Fisher is that of ``−log p(y | z)``, summed over the
    entries of the model's output ``z`` that belong to one distribution, and averaged over the rows
    and positions that the loss uses. A loss on another scale (``MSELoss`` is 2/C of it) only
    changes what ``lr`` means; but ``quadratic_model`` and ``adaptive_damping`` need exactly this
    loss.

    ``param_groups[0]`` and those of ``groups`` hold what K-FAC trains; ``lr``, ``damping``,
    ``momentum`` and ``weight_decay`` may be changed there at any time, by a scheduler or by hand,
    the other settings in ``param_groups[0]``. If not everything is covered, the last group is
    AdamW's. Its ``lr`` is on K-FAC's scale, and AdamW uses ``lr * adamw_ratio``, so that schedulers
    that write one value into all groups (OneCycleLR, CyclicLR) change both in proportion.

    The loss uses a row if its gradient with respect to ``z`` is not exactly 0. Rows that are left
    out by ``ignore_index``, a mask or a weight of 0 do not count, and neither do masked entries of
    independent targets. Weights of rows or classes, label smoothing and losses such as Huber's do
    not change the Fisher of the likelihood; only the empirical Fisher includes them. A forward pass
    counts once a backward pass reaches its output, until `zero_grad`, `step` or a change of the
    weights by another optimizer. A module that gets no rows keeps its factors. Of a batch with
    8,192 positions or more, the input factor uses every k-th row only, so that at least 4,096 are
    left.

    `torch.amp.GradScaler` and `torch.distributed` need nothing special. Several processes sum their
    factors, and each inverts a share of them; all take the same step, to the bit.

    Parts of the model may be frozen and unfrozen at any time; layers have no state before they are
    trained. Make other changes of its parameters (pruning, a parametrization, ``to(device)``,
    another head) before you build KFAC. ``copy.deepcopy`` and pickle copy the model along, so that
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
        lr: Learning rate. With the gradient's moments it means what Adam's does: the largest move
            of a weight, here in the eigenbasis; the default is .02. Two things shorten a step: the
            KL limit, where the outputs react strongly, and noise: a matrix of n > 32² entries moves
            by 32/√n of it if its gradients are only noise. Lower it, or let it decay, if the loss
            falls and then jumps. With the Fisher the default is .1; on full batches, tuning chose
            .05 to 1.6. 0, as at the start of a warm-up, moves nothing; a schedule that lowers it
            shortens the steps in proportion.
        momentum: μ. Weight of the old mean gradient, or the heavy ball on the natural gradient.
        kl_clip: c, twice the KL divergence in nats that a step may have; ``None``: no limit. With
            the gradient's moments the default is .02, for a step along the gradient of one batch;
            the noisier the gradients, the smaller the divergence of the step itself. c counts for
            each scalar that the likelihood draws, C of them in a row of ``bernoulli`` or
            ``normal``; for ``normal`` it is in units of the residuals' variance, as `MSELoss` has
            them. (As with any optimizer, standardise targets that are in the thousands.)
            Raise it for large batches and short runs, lower it for small batches. With the Fisher
            it is ``lr² vᵀg`` of one natural gradient, before momentum; a number is for the row as a
            whole, and "auto" is .001 for each scalar, or no limit with ``quadratic_model`` and
            ``adaptive_damping``, which find the length themselves.
        second_moment: What scales a step in the eigenbasis of the factors. ``"gradient"``: the root
            of the moving mean square of the batches' gradients, as in Adam and SOAP; the default,
            which on small GPTs needs fewer steps than the Fisher. ``"fisher"``: the damped Fisher
            itself, K-FAC as it was published; better for the full-batch autoencoders. ``"auto"``:
            ``"fisher"`` if ``damping``, ``exact_damping``, ``eigen_correction``,
            ``adaptive_damping`` or ``quadratic_model`` is given, which only the Fisher has.
        second_moment_decay: Weight of the old mean square; a small GPT trains equally well with all
            values from .9 to .99.
        damping: λ, added to the Fisher, .01 by default; or a function of the number of steps taken.
            Noisy gradients need more: raise it for small batches, lower it for full ones.
        weight_decay: η. For AdamW's parameters it is AdamW's decoupled weight decay.
        decoupled_weight_decay: True: θ shrinks by η·θ times the final learning rate of the step,
            the default with the gradient's moments. False: η is L2, that is η θ is added to the
            gradient and η to the damping.
        factor_decay: Largest weight of the old factors in their moving average.
        factor_interval: Steps from one update of the factors to the next, or a third of the steps
            taken if that is less: curvature changes fast at first. Default: 50 (one run of a small
            GPT ends at 1.40 after 800 steps; with 20 at 1.38, in a tenth more time). With the
            Fisher 5, or a tenth of the steps: its inverses must follow it more closely.
        inverse_interval: Steps from one inversion to the next; ``None``: with each factor update. A
            changed damping inverts anew, unless damping is exact, where it costs nothing.
        fisher: ``"mc"``: labels drawn from the model. ``"type2"``: the output Hessian's exact root,
            so that the Fisher is the generalised Gauss–Newton matrix; costs C backward passes.
            ``"empirical"``: the gradients of the loss itself, which is no Fisher.
        mc_samples: Labels drawn for each row.
        loss_reduction: ``"mean"`` or ``"sum"`` over all rows between two steps; read for
            ``fisher="empirical"``, and for the residuals' variance of ``"normal"``.
        weight_sharing: How a weight that is shared over positions is treated, ``"expand"`` or
            ``"reduce"`` (Eschenhagen et al. 2023).
        exact_damping: ``A ⊗ G + λ I`` in place of the factors damped by π.
        eigen_correction: EKFAC; damping is exact.
        max_factor_size: Largest dense factor. A wider side of a layer has equal blocks of at most
            this size and at most the size of the other side (256 inputs or 128 outputs are allowed
            whatever the other side), so that a factor takes little more memory than the weight. 1:
            diagonal factors, which diverge on autoencoders without ``kl_clip``.
        adaptive_damping: λ by Levenberg–Marquardt (M&G 2015, § 6.5). `step` needs a closure, whose
            loss is evaluated once more every ``adaptation_interval`` steps. A step is taken back if
            the loss after it is not finite, or has risen where a fall was predicted.
        adaptation_interval: T, the number of steps from one change of λ to the next.
        adaptation_decay: ω, λ changes by ω^±T. M&G use .95; with that, and from λ = 5, the digits
            autoencoder takes one and a half times as many steps to its target as with .9.
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
        seed: Seed of the private generator that draws the labels.

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
        examined = examine(model, exclude, int(max_factor_size))
        scheme = Scheme(
            exact_damping or eigen_correction,
            eigen_correction,
            weight_sharing,
            gradient_moments=moment == "gradient",
        )
        super().__init__(
            model,
            examined,
            scheme,
            keeps_weights=recover or adaptive_damping,
            settings=settings,
            groups=groups,
            fallback_lr=float(fallback_lr),
            usual_lr=own.lr,
            seed=seed,
        )
        self._defaults = own
        self._schedule = schedule
        self._adaptive, self._quadratic = adaptive_damping, quadratic_model
        self._adaptation = (adaptation_decay, adaptation_interval)
        self._recover = recover
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
        if set_to_none:  # as torch does it, without what it records for its profiler
            for parameter in self._parameters():
                parameter.grad = None
        else:
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
