"""Which passes, rows and entries count in the Fisher: against models that have those alone."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC, NaturalGradient
from fisherbo.training.pass_moments import Call

TIGHT = {"atol": 1e-12, "rtol": 1e-10}
EXACT = {"tolerance": 1e-13, "max_iterations": 1000}
Loss = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    model.double()
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(seed + index))
    return model


def network() -> nn.Module:
    return seeded(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3)))


def masked_loss(mask: Tensor, likelihood: str) -> Loss:
    """Of the rows of the mask; the mean over them."""

    def loss(z: Tensor) -> Tensor:
        y = torch.arange(len(z)) % z.shape[-1]
        if likelihood == "categorical":
            return functional.cross_entropy(z, torch.where(mask, y, -100))
        target = functional.one_hot(y, z.shape[-1]).to(z)
        if likelihood == "bernoulli":
            rows = functional.binary_cross_entropy_with_logits(z, target, reduction="none").sum(-1)
        else:
            rows = 0.5 * (z - target).square().sum(-1)
        return (rows * mask).sum() / mask.sum()

    return loss


def kept_loss(mask: Tensor, likelihood: str) -> Loss:
    """The same for outputs of those rows alone."""
    whole = masked_loss(mask, likelihood)

    def loss(z: Tensor) -> Tensor:
        return whole(z.new_zeros(len(mask), z.shape[-1]).index_put((mask,), z))

    return loss


SCHEMES: dict[str, dict[str, Any]] = {
    "expand": {},
    "reduce": {"weight_sharing": "reduce"},
    "exact": {"exact_damping": True},
    "ekfac": {"eigen_correction": True},
    "quadratic": {"quadratic_model": True},
}
ROWS = torch.arange(12) % 3 == 1


def weights_after(model: nn.Module, steps: int, x: Tensor, loss: Loss, **options: Any) -> Tensor:
    optimizer = KFAC(model, **({"damping": 0.05, "factor_interval": 1, "kl_clip": None} | options))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x)).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fisher", ["type2", "empirical"])
@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
def test_rows_that_the_loss_ignores_change_no_step(
    scheme: str, fisher: str, likelihood: str
) -> None:
    x = normal(12, 4)
    options = {"likelihood": likelihood, "fisher": fisher} | SCHEMES[scheme]
    masked = weights_after(network(), 3, x, masked_loss(ROWS, likelihood), **options)
    alone = weights_after(network(), 3, x[ROWS], kept_loss(ROWS, likelihood), **options)
    assert_close(masked, alone, atol=1e-9, rtol=1e-8)


def test_labels_are_drawn_for_the_rows_that_the_loss_uses(moments_of: Any) -> None:
    x = normal(12, 4)
    options = {"likelihood": "categorical", "keep": True}
    loss = masked_loss(ROWS, "categorical")
    found = moments_of(network(), x, fisher="mc", mc_samples=3000, loss=loss, **options)
    exact = moments_of(network(), x[ROWS], fisher="type2", **options)
    for (layer, mine), theirs in zip(found.items(), exact.values(), strict=True):
        assert mine.output_rows == theirs.output_rows == 4
        for name, factor in mine.factors().items():
            other = theirs.factors()[name]
            assert (factor - other).norm() < 0.1 * other.norm(), layer.name


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
def test_the_exact_natural_gradient_ignores_those_rows_too(likelihood: str) -> None:
    x = normal(12, 4)
    found = []
    for rows, loss in ((x, masked_loss), (x[ROWS], kept_loss)):
        model = network()
        optimizer = NaturalGradient(model, likelihood=likelihood, damping=0.1, **EXACT)
        loss(ROWS, likelihood)(model(rows)).backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(*found, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize(
    ("scheme", "fisher"),
    [("expand", "type2"), ("ekfac", "type2"), ("exact", "type2"), ("expand", "empirical")],
)
def test_ignored_positions_of_tokens_that_do_not_mix_change_no_step(
    scheme: str, fisher: str
) -> None:
    """A loss of some positions is that of a batch of those tokens."""
    tokens, mask = torch.arange(20).reshape(4, 5) % 7, normal(4, 5, seed=3) > 0
    y = torch.arange(20).reshape(4, 5) % 3
    options = {"likelihood": "categorical", "fisher": fisher} | SCHEMES[scheme]

    def model() -> nn.Module:
        return seeded(
            nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        )

    def masked(z: Tensor) -> Tensor:
        return functional.cross_entropy(z.movedim(-1, 1), torch.where(mask, y, -100))

    def alone(z: Tensor) -> Tensor:
        return functional.cross_entropy(z, y[mask])

    assert_close(
        weights_after(model(), 3, tokens, masked, **options),
        weights_after(model(), 3, tokens[mask], alone, **options),
        atol=1e-9,
        rtol=1e-8,
    )


class Causal(nn.Module):
    """Each position sees those before it; the tail of the sequence reaches no other position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens)
        attended = functional.scaled_dot_product_attention(h, h, self.mix(h), is_causal=True)
        return self.head(attended.tanh())


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("fisher", ["type2", "empirical"])
def test_padding_behind_the_tokens_is_as_if_it_were_not_there(
    sharing: str, fisher: str, moments_of: Any
) -> None:
    tokens, y = torch.arange(24).reshape(4, 6) % 7, torch.arange(24).reshape(4, 6) % 3
    y[:, 4:] = -100

    def loss(z: Tensor) -> Tensor:
        return functional.cross_entropy(z.movedim(-1, 1), y[:, : z.shape[1]], reduction="sum")

    options = {"likelihood": "categorical", "sharing": sharing, "fisher": fisher, "loss": loss}
    padded = moments_of(seeded(Causal()), tokens, **options)
    short = moments_of(seeded(Causal()), tokens[:, :4], **options)
    assert padded.keys() == short.keys() or len(padded) == len(short) == 3
    for mine, theirs in zip(padded.values(), short.values(), strict=True):
        assert (mine.input_rows, mine.output_rows) == (theirs.input_rows, theirs.output_rows)
        for name, factor in mine.factors().items():
            assert_close(factor, theirs.factors()[name], **TIGHT)


def test_inputs_count_where_attention_carries_a_gradient_to_them(moments_of: Any) -> None:
    """The loss is of the last position only, which sees all: so all inputs of `mix` count."""
    tokens, y = torch.arange(24).reshape(4, 6) % 7, torch.full((4, 6), -100)
    y[:, -1] = 1

    def loss(z: Tensor) -> Tensor:
        return functional.cross_entropy(z.movedim(-1, 1), y)

    found = moments_of(seeded(Causal()), tokens, likelihood="categorical", loss=loss)
    rows = {layer.name: (m.input_rows, m.output_rows) for layer, m in found.items()}
    assert rows == {"embed": (24, 4), "mix": (24, 4), "head": (4, 4)}


@pytest.mark.parametrize("fisher", ["type2", "mc"])
def test_masked_targets_leave_the_ggn_of_the_others(fisher: str, moments_of: Any) -> None:
    """Several targets of a row, some of them missing: G is diagonal, with the shares of targets."""
    mask, x = normal(12, 3, seed=2) > 0, normal(12, 4)
    model = seeded(nn.Sequential(nn.Linear(4, 3)))
    options = {"likelihood": "normal", "fisher": fisher, "mc_samples": 3000}
    (found,) = moments_of(
        model, x, loss=lambda z: ((z - 1).square() * mask).sum(), **options
    ).values()
    used = mask.any(1)
    factor = found.factors()["output_factor"]
    expected = torch.diag(mask[used].double().mean(0))
    assert found.output_rows == used.sum()
    assert_close(factor, expected, atol=1e-12 if fisher == "type2" else 0.05, rtol=0)


UNWEIGHTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "class weights": lambda z, y: functional.cross_entropy(
        z, y, weight=torch.tensor([0.1, 1.0, 5.0]).double()
    ),
    "label smoothing": lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.2),
    "soft labels": lambda z, y: functional.cross_entropy(z, torch.full_like(z, 1 / 3)),
    "weights of rows": lambda z, y: (
        functional.cross_entropy(z, y, reduction="none") * torch.linspace(0.1, 2, len(z)).double()
    ).mean(),
}


@pytest.mark.parametrize("name", UNWEIGHTED)
@pytest.mark.parametrize("fisher", ["mc", "type2"])
def test_weights_and_smoothed_labels_leave_the_fisher_of_the_model(
    name: str, fisher: str, factors_of: Any
) -> None:
    x, y = normal(12, 4), torch.arange(12) % 3
    options = {"likelihood": "categorical", "fisher": fisher}
    model = seeded(nn.Sequential(nn.Linear(4, 3)))
    plain = factors_of(model, x, **options)
    found = factors_of(model, x, loss=lambda z: UNWEIGHTED[name](z, y), **options)
    for one, two in zip(plain["0"], found["0"], strict=True):
        assert_close(one, two, **TIGHT)


def test_hubers_loss_has_the_fisher_of_squared_error(factors_of: Any) -> None:
    x, model = normal(12, 4), seeded(nn.Sequential(nn.Linear(4, 3)))
    found = factors_of(model, x, loss=lambda z: functional.huber_loss(z, torch.ones_like(z)))
    for one, two in zip(factors_of(model, x)["0"], found["0"], strict=True):
        assert_close(one, two, **TIGHT)


class Segmentation(nn.Module):
    def __init__(self, last: bool) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 1))
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        z = self.parts(x)
        return z.movedim(1, -1) if self.last else z


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fisher", ["mc", "type2", "empirical"])
@pytest.mark.parametrize("given", [False, True])
def test_classes_first_train_as_classes_last(scheme: str, fisher: str, given: bool) -> None:
    x, y = normal(4, 2, 3, 3), torch.arange(36).reshape(4, 3, 3) % 4
    y[0, :2] = -100
    options = {"likelihood": "categorical", "fisher": fisher} | SCHEMES[scheme]
    found = []
    for last in (False, True):

        def loss(z: Tensor, last: bool = last) -> Tensor:
            return functional.cross_entropy(z.movedim(-1, 1) if last else z, y, ignore_index=-100)

        model = seeded(Segmentation(last))
        dim = {"class_dim": (-1 if last else 1) if given else None}
        found.append(weights_after(model, 3, x, loss, **options, **dim))
    assert_close(*found, atol=1e-9, rtol=1e-8)


def test_the_exact_natural_gradient_finds_the_classes() -> None:
    x, y = normal(4, 2, 3, 3), torch.arange(36).reshape(4, 3, 3) % 4
    found = []
    for last in (False, True):
        model = seeded(Segmentation(last))
        optimizer = NaturalGradient(model, likelihood="categorical", damping=0.1, **EXACT)
        z = model(x)
        functional.cross_entropy(z.movedim(-1, 1) if last else z, y).backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(*found, atol=1e-9, rtol=1e-8)


def test_a_loss_that_does_not_fit_the_likelihood_is_refused_in_the_backward_pass() -> None:
    model = seeded(Segmentation(False))
    _optimizer = KFAC(model, likelihood="categorical")
    with pytest.raises(InvalidInputError, match="sums to 0 over neither"):
        model(normal(4, 2, 3, 3)).square().sum().backward()


class Experts(nn.Module):
    """Rows go to one of two experts, which is called without rows or not at all if it gets none."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 5)])
        self.head = nn.Linear(5, 3)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        routed = x[:, 0] > 0
        out = x.new_zeros(len(x), 5)
        for index, expert in enumerate(self.experts):
            rows = (routed == bool(index)).nonzero()[:, 0]
            if self.always or len(rows):
                out = out.index_add(0, rows, expert(x[rows]).tanh())
        return self.head(out)


MODES: dict[str, dict[str, Any]] = {
    "mc": {}, "type2": {"fisher": "type2"}, "empirical": {"fisher": "empirical"},
    "ekfac": {"eigen_correction": True}, "reduce": {"weight_sharing": "reduce"},
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("always", [True, False])
def test_a_layer_without_rows_keeps_its_factors(mode: str, always: bool) -> None:
    model = seeded(Experts(always))
    optimizer = KFAC(model, likelihood="categorical", damping=0.1, **MODES[mode])
    y = torch.arange(12) % 3
    for step in range(4):
        x = normal(12, 4, seed=step)
        if step == 2:
            x[:, 0] = -1
            before = copy.deepcopy(optimizer.state[model.experts[1].weight])
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if step == 2:
            after = optimizer.state[model.experts[1].weight]
            for name in ("input_factor", "output_factor", "factor_updates"):
                assert_close(after[name], before[name], atol=0, rtol=0)
    assert all(p.isfinite().all() for p in model.parameters())
    assert optimizer.state[model.experts[1].weight]["factor_updates"] == 3
    assert optimizer.state[model.head.weight]["factor_updates"] == 4


@pytest.mark.parametrize("mode", ["type2", "empirical"])
def test_a_layer_that_one_pass_leaves_out_has_the_mean_over_the_rows_of_all(mode: str) -> None:
    """Accumulated passes are one batch, although an expert is called in one of them only."""
    x, y = normal(12, 4), torch.arange(12) % 3
    x[6:, 0] = -x[6:, 0].abs()
    found = []
    for parts in (1, 2):
        model = seeded(Experts(always=False))
        optimizer = KFAC(model, likelihood="categorical", **MODES[mode])
        for rows, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (functional.cross_entropy(model(rows), labels) / parts).backward()
        optimizer.step()
        found.append([optimizer.state[m.weight] for m in (*model.experts, model.head)])
    for one, two in zip(*found, strict=True):
        assert_close(one["input_factor"], two["input_factor"], **TIGHT)
        assert_close(one["output_factor"], two["output_factor"], **TIGHT)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_padding_leaves_an_embedding_alone(mode: str) -> None:
    class Tagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tag, self.head = nn.Embedding(6, 4, padding_idx=0), nn.Linear(4, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.tag(tokens).mean(1))

    model = Tagged()
    optimizer = KFAC(model, likelihood="categorical", **MODES[mode])
    y = torch.arange(16) % 3
    for first in (True, False, True, False):
        tokens = torch.zeros(16, 2, dtype=torch.long)
        if not first:
            tokens[:, 0] = torch.arange(16) % 6
        optimizer.zero_grad()
        functional.cross_entropy(model(tokens), y).backward()
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
    assert optimizer.state[model.tag.weight]["factor_updates"] == 2


EMPTY: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "linear": lambda: (nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)), (4,)),
    "shared": lambda: (
        nn.Sequential(nn.Linear(4, 5), nn.RMSNorm((2, 5)), nn.Flatten(), nn.Linear(10, 3)), (2, 4),
    ),
    "grouped": lambda: (
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 3)), (4, 3, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"damping": 0.1}, {"eigen_correction": True}])
def test_a_loss_without_a_gradient_is_a_step(options: dict[str, Any]) -> None:
    """One class alone: each row's gradient is 0, so that no row counts and there are no factors."""
    model = nn.Linear(4, 1)
    before = model.weight.detach().clone()
    optimizer = KFAC(model, likelihood="categorical", weight_decay=0.5, **options)
    functional.cross_entropy(model(torch.ones(6, 4)), torch.zeros(6, dtype=torch.long)).backward()
    optimizer.step()
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_is_a_step_like_any_other(mode: str, name: str) -> None:
    model, shape = EMPTY[name]()
    optimizer = KFAC(model, likelihood="categorical", **MODES[mode])
    for rows in (0, 6, 0, 6):
        optimizer.zero_grad()
        loss = functional.cross_entropy(
            model(torch.randn(rows, *shape)), torch.arange(rows) % 3, reduction="sum"
        )
        loss.backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert optimizer.state[model[0].weight]["factor_updates"] == 2


def test_an_empty_batch_and_the_exact_natural_gradient() -> None:
    model = network()
    optimizer = NaturalGradient(model, likelihood="categorical")
    before = model[0].weight.clone()
    model(normal(0, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(model[0].weight, before)


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    functional.cross_entropy(model(normal(12, 4)), torch.arange(12) % 3).backward()
    optimizer.step()


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    mode: lambda model, options=options: KFAC(model, likelihood="categorical", **options)
    for mode, options in (MODES | {"quadratic": {"quadratic_model": True}}).items()
} | {
    "natural": lambda model: NaturalGradient(model, likelihood="categorical", damping=0.1, **EXACT)
}


def without_backward(model: nn.Module, _: torch.optim.Optimizer) -> None:
    functional.cross_entropy(model(torch.full((3, 4), torch.nan).double()), torch.arange(3))


def forgotten(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    functional.cross_entropy(model(normal(3, 4) * torch.nan), torch.arange(3)).backward()
    optimizer.zero_grad()


def at_other_weights(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    kept = [p.detach().clone() for p in model.parameters()]
    other = torch.optim.Adam(model.parameters())
    model(normal(3, 4)).square().sum().backward()
    other.step()
    other.zero_grad()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), kept, strict=True):
            parameter.copy_(value)


@pytest.mark.parametrize("before", [without_backward, forgotten, at_other_weights])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_passes_that_the_gradient_is_not_of_change_no_step(name: str, before: Any) -> None:
    found = []
    for disturbed in (False, True):
        model = network()
        optimizer = OPTIMIZERS[name](model)
        if disturbed:
            generator = getattr(optimizer, "_generator", None)
            state = None if generator is None else generator.get_state()
            before(model, optimizer)
            if generator is not None and state is not None:
                generator.set_state(state)
        one_step(model, optimizer)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loss_that_is_kept_keeps_no_inputs(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(functional.cross_entropy(model(normal(12, 4)), torch.arange(12) % 3))
        losses[-1].backward()
        optimizer.step()
    kept = [x for x in gc.get_objects() if type(x) is Call]
    assert all(call.gradient.value is None for call in kept)
    assert not any(call.layer.module in {*model} for call in kept)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_passes_without_a_backward_pass_are_freed_with_their_outputs(name: str) -> None:
    model = network()
    _optimizer = OPTIMIZERS[name](model)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(x) is Tensor for x in gc.get_objects())
        for _ in range(5):
            functional.cross_entropy(model(normal(12, 4)), torch.arange(12) % 3)
        assert sum(type(x) is Tensor for x in gc.get_objects()) <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_outputs_may_be_changed_in_place(name: str) -> None:
    found = []
    for inplace in (False, True):
        model = network()
        optimizer = OPTIMIZERS[name](model)
        z = model(normal(12, 4))
        z = z.mul_(2).sub_(1) if inplace else 2 * z - 1
        functional.cross_entropy(z, torch.arange(12) % 3).backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_second_backward_pass_counts_no_row_twice(name: str) -> None:
    found = []
    for twice in (False, True):
        model = network()
        optimizer = OPTIMIZERS[name](model)
        loss = functional.cross_entropy(model(normal(12, 4)), torch.arange(12) % 3)
        if twice:
            (0.25 * loss).backward(retain_graph=True)
            (0.75 * loss).backward()
        else:
            loss.backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(*found, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_by_autograd_grad_count_as_well(name: str) -> None:
    found = []
    for functional_style in (False, True):
        model = network()
        optimizer = OPTIMIZERS[name](model)
        loss = functional.cross_entropy(model(normal(12, 4)), torch.arange(12) % 3)
        if functional_style:
            gradients = torch.autograd.grad(loss, [*model.parameters()], create_graph=True)
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient.detach()
        else:
            loss.backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(*found, **TIGHT)


def test_a_gradient_penalty_goes_through_the_outputs_twice() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="normal", lr=1e-3)
    plain = network()
    for one in (model, plain):
        x = normal(12, 4).requires_grad_()
        (slope,) = torch.autograd.grad(one(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None:
            assert_close(mine.grad, theirs.grad, **TIGHT)
    optimizer.step()


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = network()

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.parts, x, use_reentrant=False)


@pytest.mark.parametrize("name", ["mc", "type2", "empirical", "ekfac", "natural"])
@pytest.mark.parametrize("outside", [False, True])
def test_checkpoints_and_ignored_rows(name: str, outside: bool) -> None:
    found = []
    for use in (False, True):
        model = Checkpointed() if use and not outside else network()
        optimizer = OPTIMIZERS[name](model)
        x = normal(12, 4)
        z = checkpoint(model, x, use_reentrant=False) if use and outside else model(x)
        masked_loss(ROWS, "categorical")(z).backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(*found, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("name", MODES)
def test_half_precision_sums_are_made_in_float32(name: str) -> None:
    """Sums of squares over 64·48² positions are beyond float16."""
    x, y = torch.randn(16, 8, 48, 48), torch.arange(16) % 3
    layers = {
        "grouped": [nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8)],
        "plain": [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)],
    }
    if name == "type2":
        del layers["plain"]
    for parts in layers.values():
        model = nn.Sequential(
            *parts, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
        )
        optimizer = KFAC(model, likelihood="categorical", **MODES[name])
        with torch.autocast("cpu", torch.float16):
            loss = functional.cross_entropy(8 * model(8 * x), y)
            loss.backward()
        optimizer.step()
        state = optimizer.state[model[0].weight]
        assert state["input_factor"].dtype == torch.float32
        assert state["input_factor"].isfinite().all()


def gaussian_nll(z: Tensor) -> Tensor:
    y = normal(12, 2, seed=9)
    return functional.gaussian_nll_loss(z[:, :2], y, z[:, 2:].exp(), reduction="sum") / 12


def heteroscedastic() -> nn.Module:
    return seeded(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)))


def learned_variance(z: Tensor) -> torch.distributions.Distribution:
    return torch.distributions.Normal(z[:, :2], (0.5 * z[:, 2:]).exp())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_likelihood_may_be_a_function(scheme: str) -> None:
    options = {"fisher": "type2"} | SCHEMES[scheme]
    x = normal(12, 4)
    found = [
        weights_after(heteroscedastic(), 3, x, gaussian_nll, likelihood=likelihood, **options)
        for likelihood in ("heteroscedastic_normal", learned_variance)
    ]
    assert_close(*found, atol=1e-9, rtol=1e-8)


def test_the_exact_natural_gradient_takes_functions() -> None:
    found = []
    for likelihood in ("heteroscedastic_normal", learned_variance):
        model = heteroscedastic()
        optimizer = NaturalGradient(model, likelihood=likelihood, damping=0.1, **EXACT)
        gaussian_nll(model(normal(12, 4))).backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert_close(*found, atol=1e-9, rtol=1e-8)


def test_one_layer_with_one_row_has_the_fisher_of_its_likelihood(moments_of: Any) -> None:
    """Counts with a log rate: F = rate · a aᵀ for each output."""
    model, x = seeded(nn.Sequential(nn.Linear(4, 2, bias=False))), normal(1, 4)

    def poisson(z: Tensor) -> torch.distributions.Distribution:
        return torch.distributions.Poisson(z.exp())

    (found,) = moments_of(model, x, likelihood=poisson, loss=lambda z: (z.exp() - z).sum()).values()
    factors = found.factors()
    assert_close(factors["output_factor"], torch.diag(model(x)[0].exp()).detach(), **TIGHT)
    assert_close(factors["input_factor"], x.T @ x, **TIGHT)


@pytest.mark.parametrize("likelihood", ["heteroscedastic_normal", learned_variance])
@pytest.mark.parametrize("options", [{}, {"eigen_correction": True}])
def test_a_learned_variance_trains(likelihood: Any, options: dict[str, Any]) -> None:
    x = torch.linspace(-3, 3, 200)[:, None]
    y = x.sin() + (0.05 + 0.3 * (x > 0)) * torch.randn(
        200, 1, generator=torch.Generator().manual_seed(0)
    )
    if callable(likelihood):

        def likelihood(z: Tensor) -> torch.distributions.Distribution:
            return torch.distributions.Normal(z[:, :1], (0.5 * z[:, 1:]).exp())

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)
    )
    optimizer = KFAC(model, likelihood=likelihood, kl_clip=1e-3, **options)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        z = model(x)
        loss = functional.gaussian_nll_loss(z[:, :1], y, z[:, 1:].exp())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses) < 3
    assert losses[-1] < losses[0] - 1.5
