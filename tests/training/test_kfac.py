from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.testing import assert_close

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import KFAC, mlp
from fisherbo.training.factors import damped_factors

DAMPED: dict[str, Any] = {"second_moment": "fisher", "kl_clip": None}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(seed: int = 0) -> nn.Module:
    return mlp(4, (6, 5), 3, seed).double()


class Mixed(nn.Module):
    """Covered and uncovered modules together."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.hidden = nn.Linear(4, 4)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2)
        self.conv = nn.Conv2d(4, 2, (1, 2))
        self.head = nn.Linear(4, 3)
        for index, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = torch.tanh(self.hidden(self.norm(x))).mT[:, :, None]
        return self.head(self.conv(torch.tanh(self.grouped(x))).flatten(1))


def mixed_batch() -> tuple[Tensor, Tensor]:
    tokens = torch.arange(24).reshape(8, 3) % 7
    return tokens, torch.arange(8) % 3


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    x, y = mixed_batch() if isinstance(model, Mixed) else (normal(8, 4), torch.arange(8) % 3)
    x = x if x.dtype == torch.int64 else x.to(next(model.parameters()).dtype)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def assert_equal(first: list[Tensor], second: list[Tensor]) -> None:
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """The state after a round trip through a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer)


def test_a_step_is_the_damped_natural_gradient_with_momentum() -> None:
    model = network()
    optimizer = KFAC(
        model,
        **DAMPED,
        likelihood="categorical",
        fisher="type2",
        lr=0.1,
        damping=0.02,
        momentum=0.6,
        weight_decay=0.01,
        factor_interval=1,
    )
    layer = model[0]
    velocity = torch.zeros(6, 5).double()
    for _ in range(3):
        before = torch.cat([layer.weight, layer.bias[:, None]], 1).detach()
        advance(model, optimizer, 1)
        gradient = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1) + 0.01 * before
        state = optimizer.state[layer.weight]
        a, g = damped_factors(state["input_factor"], state["output_factor"], 0.03)
        velocity = 0.6 * velocity + torch.linalg.solve(
            g, torch.linalg.solve(a, gradient, left=False)
        )
        after = torch.cat([layer.weight, layer.bias[:, None]], 1).detach()
        assert_close(after, before - 0.1 * velocity)


def test_factors_follow_the_moving_average() -> None:
    model = network()
    optimizer = KFAC(
        model, likelihood="normal", fisher="type2", factor_interval=1, factor_decay=0.6
    )
    averages = None
    for step in range(4):
        x = normal(8, 4, seed=step)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        rows = torch.cat([x, torch.ones(8, 1).double()], 1)
        new, old_weight = rows.T @ rows / 8, min(1 - 1 / (step + 1), 0.6)
        averages = new if averages is None else old_weight * averages + (1 - old_weight) * new
        assert_close(optimizer.state[model[0].weight]["input_factor"], averages)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_of_gradients_changes_nothing(parts: int) -> None:
    x, y = normal(8, 4), torch.arange(8) % 3
    results = []
    for count in (1, parts):
        model = network()
        optimizer = KFAC(model, likelihood="categorical", fisher="type2", factor_interval=2)
        for _ in range(5):
            optimizer.zero_grad()
            for chunk, labels in zip(x.chunk(count), y.chunk(count), strict=True):
                (functional.cross_entropy(model(chunk), labels) / count).backward()
            optimizer.step()
        results.append(weights(model))
    for whole, accumulated in zip(*results, strict=True):
        assert_close(whole, accumulated, atol=1e-10, rtol=1e-10)


def test_a_sum_loss_differs_by_the_learning_rate_alone() -> None:
    x, y = normal(8, 4), torch.arange(8) % 3
    results = []
    for reduction, lr in (("mean", 0.4), ("sum", 0.05)):
        model = network()
        optimizer = KFAC(model, **DAMPED, likelihood="categorical", fisher="type2", lr=lr)
        for _ in range(5):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y, reduction=reduction).backward()
            optimizer.step()
        results.append(weights(model))
    for mean, total in zip(*results, strict=True):
        assert_close(mean, total, atol=1e-10, rtol=1e-10)


def test_a_repeated_batch_changes_nothing() -> None:
    x, y = normal(8, 4), torch.arange(8) % 3
    results = []
    for times in (1, 3):
        model = network()
        optimizer = KFAC(model, likelihood="categorical", fisher="type2")
        for _ in range(5):
            optimizer.zero_grad()
            functional.cross_entropy(model(x.repeat(times, 1)), y.repeat(times)).backward()
            optimizer.step()
        results.append(weights(model))
    for once, repeated in zip(*results, strict=True):
        assert_close(once, repeated, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("build", [network, Mixed])
@pytest.mark.parametrize("options", [{}, {"inverse_interval": 3, "kl_clip": 1e-2, "mc_samples": 2}])
@pytest.mark.parametrize("split", [0, 5, 13])
def test_resume_is_bit_exact(build: Any, options: dict[str, Any], split: int) -> None:
    def start() -> tuple[nn.Module, KFAC]:
        model = build()
        return model, KFAC(model, likelihood="categorical", **options)

    straight, optimizer = start()
    losses = advance(straight, optimizer, 18)
    first, optimizer = start()
    head = advance(first, optimizer, split)
    states = saved(first.state_dict()), saved(optimizer.state_dict())
    second, resumed = start()
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert head + advance(second, resumed, 18 - split) == losses
    assert_equal(weights(second), weights(straight))


def test_a_forward_pass_before_saving_does_not_disturb_the_resumed_run() -> None:
    straight = network()
    advance(straight, KFAC(straight, likelihood="categorical"), 10)
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    advance(model, optimizer, 5)
    model(normal(8, 4))
    state = saved(optimizer.state_dict())
    resumed = KFAC(model, likelihood="categorical", seed=1)
    optimizer.remove_hooks()
    resumed.load_state_dict(state)
    advance(model, resumed, 5)
    assert_equal(weights(model), weights(straight))


def test_a_loaded_state_is_a_copy() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", factor_interval=1)
    advance(model, optimizer, 2)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state["state"][0]["input_factor"])
    other = network(1)
    resumed = KFAC(other, likelihood="categorical", factor_interval=1)
    resumed.load_state_dict(state)
    advance(other, resumed, 2)
    assert torch.equal(state["state"][0]["input_factor"], kept)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_factors_keep_their_precision_when_loaded(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    optimizer = KFAC(model, **DAMPED, likelihood="categorical")
    advance(model, optimizer, 2)
    resumed = KFAC(model, **DAMPED, likelihood="categorical")
    resumed.load_state_dict(saved(optimizer.state_dict()))
    expected = torch.promote_types(dtype, torch.float32)
    for key in ("input_factor", "output_factor", "input_inverse", "momentum_buffer"):
        original = optimizer.state[model[0].weight][key]
        loaded = resumed.state[model[0].weight][key]
        assert original.dtype == loaded.dtype == expected
        assert torch.equal(original, loaded)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_training_in_low_precision_makes_progress(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    losses = advance(model, KFAC(model, likelihood="categorical", lr=0.05), 20)
    assert losses[-1] < 0.5 * losses[0]


def test_the_same_seed_gives_the_same_run_whatever_the_global_state() -> None:
    runs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        model = network()
        runs.append(advance(model, KFAC(model, likelihood="categorical", seed=3), 6))
        assert torch.equal(torch.get_rng_state(), before)
    model = network()
    assert runs[0] == runs[1] != advance(model, KFAC(model, likelihood="categorical", seed=4), 6)


def test_uncovered_parameters_are_trained_by_adamw() -> None:
    model, reference = Mixed(), Mixed()
    optimizer = KFAC(
        model, likelihood="categorical", fallback_lr=0.02, weight_decay=0.1, exclude=["attention"]
    )
    assert optimizer.coverage().covered == ("embed", "norm", "hidden", "grouped", "conv", "head")
    fallback = optimizer.param_groups[1]["params"]
    names = [n for n, p in model.named_parameters() if any(p is q for q in fallback)]
    adamw = torch.optim.AdamW(
        [dict(reference.named_parameters())[n] for n in names], lr=0.02, weight_decay=0.1
    )
    for _ in range(3):
        advance(model, optimizer, 1)
        for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            theirs.grad = None if mine.grad is None else mine.grad.clone()
        adamw.step()
    for name in names:
        assert torch.equal(
            dict(model.named_parameters())[name], dict(reference.named_parameters())[name]
        )
    assert {"attention.in_proj_weight", "attention.out_proj.weight"} <= {*names}


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = Mixed()
    optimizer = KFAC(model, likelihood="categorical", exclude=["head"])
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert "head" in dict(optimizer.coverage().uncovered)
    before = weights(model)
    losses = advance(model, optimizer, 8)
    assert losses[-1] < losses[0]
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)


SCHEDULERS = {
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=12),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 12),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, cycle_momentum=True),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("build", [network, Mixed])
def test_schedulers_set_what_the_step_uses(name: str, build: Any) -> None:
    model = build()
    optimizer = KFAC(model, likelihood="categorical", lr=0.05)
    scheduler = SCHEDULERS[name](optimizer)
    rates = []
    for _ in range(10):
        advance(model, optimizer, 1)
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 5
    if name == "one cycle":
        assert optimizer.param_groups[0]["momentum"] != 0.9
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = weights(model)
    advance(model, optimizer, 1)
    assert_equal(before, weights(model))


def test_a_changed_damping_inverts_anew_without_new_factors() -> None:
    model = network()
    optimizer = KFAC(model, **DAMPED, likelihood="categorical", factor_interval=100)
    advance(model, optimizer, 30)  # no factors at the next three steps
    state = optimizer.state[model[0].weight]
    factor, inverse = state["input_factor"].clone(), state["input_inverse"].clone()
    advance(model, optimizer, 1)
    assert torch.equal(state["input_inverse"], inverse)
    optimizer.param_groups[0]["damping"] = 0.5
    advance(model, optimizer, 1)
    assert torch.equal(state["input_factor"], factor)
    assert state["input_inverse"].norm() < inverse.norm()


def test_inverses_wait_for_their_interval() -> None:
    model = network()
    optimizer = KFAC(
        model, **DAMPED, likelihood="categorical", factor_interval=1, inverse_interval=3
    )
    changed, previous = [], None
    for _ in range(7):
        advance(model, optimizer, 1)
        inverse = optimizer.state[model[0].weight]["output_inverse"]
        changed.append(inverse is not previous)
        previous = inverse
    assert changed == [True, False, False, True, False, False, True]


@given(st.floats(1e-8, 1e-2))
def test_kl_clip_bounds_the_first_step(clip: float) -> None:
    model = network()
    optimizer = KFAC(
        model,
        second_moment="fisher",
        likelihood="categorical",
        lr=1.0,
        momentum=0.0,
        kl_clip=clip,
        damping=1e-3,
    )
    before = weights(model)
    advance(model, optimizer, 1)
    slope = sum(
        ((old - p) * p.grad).sum().item() for old, p in zip(before, model.parameters(), strict=True)
    )  # lr ν v·g, and (lr ν)² v·g = lr² ν² v·g
    free = network()
    advance(
        free,
        KFAC(
            free,
            **DAMPED,
            likelihood="categorical",
            lr=1.0,
            momentum=0.0,
            damping=1e-3,
        ),
        1,
    )
    full = sum(
        ((old - p) * g.grad).sum().item()
        for old, p, g in zip(before, free.parameters(), model.parameters(), strict=True)
    )
    assert slope**2 / full <= clip * (1 + 1e-6)


def test_closures_are_evaluated_once_and_returned() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(normal(8, 4)), torch.arange(8) % 3)
        loss.backward()
        calls.append(loss)
        return loss

    plain = network()
    expected = advance(plain, KFAC(plain, likelihood="categorical"), 3)
    assert [optimizer.step(closure).item() for _ in range(3)] == expected
    assert len(calls) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["0.weight", "2.bias"])
def test_gradients_that_are_not_finite_leave_the_parameters(value: float, where: str) -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    advance(model, optimizer, 2)
    functional.cross_entropy(model(normal(8, 4)), torch.arange(8) % 3).backward()
    dict(model.named_parameters())[where].grad.view(-1)[0] = value
    before = weights(model)
    with pytest.raises(DivergedError, match="gradient is not finite"):
        optimizer.step()
    assert_equal(before, weights(model))
    advance(model, optimizer, 1)


def test_factors_that_are_not_finite_leave_the_parameters() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="normal")
    model(torch.full((2, 4), torch.inf).double()).sum().backward()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = weights(model)
    with pytest.raises(DivergedError, match="Kronecker factor is not finite"):
        optimizer.step()
    assert_equal(before, weights(model))


def test_a_closure_whose_loss_is_not_finite_is_refused() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="normal")
    with pytest.raises(DivergedError, match="the loss is nan"):
        optimizer.step(lambda: float("nan"))


def test_a_step_before_any_forward_pass_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="forward pass of the whole model"):
        KFAC(network(), likelihood="normal").step()


def test_a_step_without_a_pass_of_the_whole_model_is_refused() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    with pytest.raises(InvalidInputError, match="module '0' has a gradient but no Kronecker"):
        advance(nn.Sequential(*model), optimizer, 1)


def test_training_in_evaluation_mode_is_training() -> None:
    one, other = network(), network().eval()
    advance(one, KFAC(one, likelihood="categorical"), 5)
    advance(other, KFAC(other, likelihood="categorical"), 5)
    assert_equal(weights(one), weights(other))


def test_groups_cannot_be_added() -> None:
    optimizer = KFAC(network(), likelihood="normal")
    with pytest.raises(InvalidInputError, match="follow from its model"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr must be >= 0, got -0.1"),
        ({"lr": float("nan")}, "lr must be >= 0, got nan"),
        ({"damping": 0}, "damping must be > 0, got 0; typical"),
        ({"damping": -1.0}, "damping must be > 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, "momentum must be in"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
        ({"kl_clip": 0.0}, "kl_clip must be > 0, None or"),
        ({"factor_decay": 1.0}, "factor_decay must be in"),
        ({"factor_interval": 0}, "factor_interval must be a whole number >= 1"),
        ({"factor_interval": 1.5}, "factor_interval must be a whole number >= 1"),
        ({"inverse_interval": 0}, "inverse_interval must be a whole number >= 1 or None"),
        ({"fallback_lr": -1e-3}, "fallback_lr must be > 0"),
        ({"adaptation_interval": 0}, "adaptation_interval must be a whole number"),
        ({"adaptation_decay": 1.0}, r"adaptation_decay must be in \(0, 1\)"),
        ({"loss_reduction": "none"}, "loss_reduction must be one of mean, sum"),
        ({"weight_sharing": "sum"}, "weight_sharing must be one of expand, reduce"),
        ({"damping": lambda step: -1.0}, "damping must be > 0, got -1.0"),
        ({"damping": lambda step: 1.0, "adaptive_damping": True}, "got a schedule"),
        ({"mc_samples": 0}, "mc_samples must be a whole number >= 1"),
        ({"likelihood": "poisson"}, "likelihood must be one of categorical.*got 'poisson'"),
        ({"fisher": "exact"}, "fisher must be one of mc, type2, empirical, got 'exact'"),
        ({"exclude": ["nothing"]}, "exclude must name modules"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    model = network()
    with pytest.raises(InvalidInputError, match=message):
        KFAC(model, **({"likelihood": "normal"} | options))
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("fisher", [*range(1, 12), 11, 12, 12, 13, 13, 14, 14, 15, 15]),
        ("gradient", [1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 8, 9]),
    ],
)
def test_factors_are_updated_at_the_first_steps_and_then_at_their_interval(
    moment: Any, expected: list[int]
) -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", second_moment=moment, factor_interval=4)
    updates = []
    for _ in range(len(expected)):
        advance(model, optimizer, 1)
        updates.append(optimizer.state[model[0].weight]["factor_updates"])
    assert updates == expected


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
def test_outputs_that_are_not_finite_fail_at_the_step_not_in_the_forward_pass(
    likelihood: Any,
) -> None:
    model = nn.Linear(3, 2)
    optimizer = KFAC(model, likelihood=likelihood)
    with torch.no_grad():
        model.weight.fill_(torch.nan)
    model(torch.ones(4, 3)).square().sum().backward()
    with pytest.raises(DivergedError, match="is not finite"):
        optimizer.step()
