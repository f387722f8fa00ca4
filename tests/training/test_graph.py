"""Weights that a model uses besides the modules that hold them."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC

SIZE, WIDTH = 16, 8
USES: dict[str, Any] = {
    "linear": lambda model, h: functional.linear(h, model.embed.weight),
    "matmul": lambda model, h: torch.matmul(h, model.embed.weight.T),
    "once more": lambda model, h: functional.linear(
        functional.linear(h, model.inner.weight), model.out.weight
    ),
    "bias": lambda model, h: model.out(h) + model.inner.bias.sum(),
}
LEFT = {"linear": ["embed"], "matmul": ["embed"], "once more": ["inner"], "bias": ["inner"]}


class Tied(nn.Module):
    def __init__(self, use: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.use = use
        self.embed, self.inner = nn.Embedding(SIZE, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, SIZE)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens)
        h = self.norm(h + torch.tanh(self.inner(h)))
        return USES[self.use](self, h) if self.use in USES else self.out(h)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(SIZE, (6, 5), generator=torch.Generator().manual_seed(seed))
    return tokens, (3 * tokens + 1) % SIZE


def fit(model: nn.Module, optimizer: Any, steps: int, start: int = 0) -> list[float]:
    losses = []
    for step in range(start, start + steps):
        tokens, labels = batch(step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), labels.flatten())
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("options", [{}, {"eigen_correction": True}, {"fisher": "empirical"}])
def test_a_weight_that_is_also_used_by_a_function_is_left_to_adamw(
    use: str, options: dict[str, Any]
) -> None:
    model = Tied(use)
    if use != "bias":
        model.out.bias.requires_grad_(False)
    unused = ["out"] if use in ("linear", "matmul", "once more") else []
    optimizer = KFAC(
        model, likelihood="categorical", kl_clip=0.01, exclude=unused, fallback_lr=0.02, **options
    )
    with pytest.warns(UserWarning, match=f"AdamW trains '{LEFT[use][0]}': the model also uses"):
        first = fit(model, optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = fit(model, optimizer, 40, 1)
    assert max(losses) < 1.5 * first[0]
    assert losses[-1] < 0.8 * first[0]
    left = [name for name, why in optimizer.coverage().uncovered if "without calling" in why]
    assert left == LEFT[use]
    assert not {*left} & {*optimizer.coverage().covered}


def test_it_is_the_step_of_adamw_with_the_fallback_rate() -> None:
    model = Tied("linear")
    optimizer = KFAC(
        model, likelihood="categorical", exclude=["out"], fallback_lr=0.02, weight_decay=0.1
    )
    reference = copy.deepcopy(model.embed.weight.detach()).requires_grad_()
    adamw = torch.optim.AdamW([reference], lr=0.02, weight_decay=0.1)
    with pytest.warns(UserWarning, match="AdamW trains 'embed'"):
        fit(model, optimizer, 1)
    for step in range(1, 4):
        reference.grad = model.embed.weight.grad.clone()
        adamw.step()
        assert torch.equal(model.embed.weight, reference)
        fit(model, optimizer, 1, step)


@pytest.mark.filterwarnings("ignore:AdamW trains")
def test_the_rate_follows_the_schedule_where_adamw_has_no_group() -> None:
    model = Tied("bias")
    optimizer = KFAC(model, likelihood="categorical", fallback_lr=0.02)
    assert len(optimizer.param_groups) == 1
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    moves = []
    for step in range(3):
        before = model.inner.weight.detach().clone()
        fit(model, optimizer, 1, 0 * step)
        moves.append((model.inner.weight - before).abs().max().item())
        schedule.step()
    assert moves[0] == pytest.approx(0.02, rel=0.05)  # |first step of Adam| = lr
    assert 0.004 < moves[2] < 0.0055


def train_on(model: nn.Module, optimizer: KFAC) -> list[Tensor]:
    fit(model, optimizer, 3, 3)
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.filterwarnings("ignore:AdamW trains")
@pytest.mark.parametrize("first", [False, True])
def test_it_resumes_bit_for_bit(first: bool) -> None:
    def built() -> tuple[nn.Module, KFAC]:
        model = Tied("linear")
        return model, KFAC(model, likelihood="categorical", exclude=["out"], kl_clip=0.01)

    model, optimizer = built()
    fit(model, optimizer, 0 if first else 3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    end = train_on(model, optimizer)
    for warm in (False, True):
        model, optimizer = built()
        if warm:  # it has found the other use, and takes the state from before over all the same
            fit(model, optimizer, 2)
        weights, state = copy.deepcopy(saved)
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for mine, theirs in zip(train_on(model, optimizer), end, strict=True):
            assert torch.equal(mine, theirs)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + functional.linear(x, self.layer.weight)


def test_nothing_left_is_refused() -> None:
    model = Shared()
    optimizer = KFAC(model, likelihood="normal")
    model(torch.randn(3, 4)).sum().backward()
    with (
        pytest.warns(UserWarning, match="AdamW trains 'layer'"),
        pytest.raises(InvalidInputError, match=r"nothing is left to K-FAC; use torch.optim.AdamW"),
    ):
        optimizer.step()


class Harmless(nn.Module):
    """Uses of weights that are calls of their modules, or need no gradient."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.again.weight, self.again.bias = self.a.weight, self.a.bias
        self.conv, self.act, self.way = nn.Conv1d(1, 2, 3), nn.ReLU(inplace=True), way

    def body(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.way == "in place":
            h[:, 0] = 0
            h += 1
        h = self.act(h)
        if self.way == "twice":
            h = self.a(self.again(self.a(h)))
        if self.way == "no gradient":
            h = h + functional.linear(x, self.a.weight.detach())
            with torch.no_grad():
                h = h + functional.linear(x, self.b.weight)
        h = self.b(h) + h
        return h + self.act(self.conv(h[:, None])).mean((1, 2))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return (
            checkpoint(self.body, x, use_reentrant=False) if self.way == "saved" else self.body(x)
        )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo
@pytest.mark.parametrize(
    "way",
    [
        "plain",
        "twice",
        "no gradient",
        "in place",
        "saved",
        pytest.param("compiled", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_what_the_hooks_have_seen_stays_covered(way: str, mixed: bool) -> None:
    torch.manual_seed(0)
    model = Harmless(way)
    optimizer = KFAC(model, likelihood="normal", lr=1e-3)
    run = torch.compile(model, backend="aot_eager") if way == "compiled" else model
    x = torch.randn(5, 4, requires_grad=True)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            z = run(x)
        z.float().square().sum().backward()
        optimizer.step()
    assert optimizer.coverage().share == 1


class Between(nn.Module):
    """Two layers, and a compiled graph between them that saves tensors of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.softplus(torch.tanh(self.a(x)).sin().exp()))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo
@pytest.mark.slow
def test_a_compiled_model_may_meet_a_new_batch_size_when_no_factors_are_due() -> None:
    torch.manual_seed(0)
    model = Between()
    optimizer = KFAC(model, likelihood="normal", factor_interval=4)
    run = torch.compile(model, backend="aot_eager")
    before = torch._functorch.config.donated_buffer
    for step in range(50):
        x = torch.randn(8 if step < 42 else 5, 4)
        optimizer.zero_grad()
        functional.mse_loss(run(x), x[:, :2]).backward()
        optimizer.step()
    assert torch._functorch.config.donated_buffer == before


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo
@pytest.mark.slow
def test_what_was_compiled_before_is_compiled_anew_after_a_reset() -> None:
    """Dynamo's cache is by code, and does not look at hooks."""
    torch.compiler.reset()
    x, other, model = torch.randn(8, 4), Between(), Between()
    torch.compile(other, backend="aot_eager")(x).sum().backward()
    optimizer = KFAC(model, likelihood="normal")
    run = torch.compile(model, backend="aot_eager")
    run(x).square().mean().backward()
    with pytest.raises(InvalidInputError, match=r"call torch.compiler.reset\(\) after building"):
        optimizer.step()
    torch.compiler.reset()
    run(x).square().mean().backward()
    optimizer.step()
    assert optimizer.coverage().share == 1


def test_a_use_under_autocast_is_found_although_the_cast_is_shared() -> None:
    model = Tied("matmul")
    optimizer = KFAC(model, likelihood="categorical", exclude=["out"])
    tokens, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), labels.flatten())
    loss.backward()
    with pytest.warns(UserWarning, match="AdamW trains 'embed'"):
        optimizer.step()


@pytest.mark.filterwarnings("ignore:AdamW trains")
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_leaves_the_same_layers(clone: Any) -> None:
    model = Tied("linear")
    optimizer = KFAC(model, likelihood="categorical", exclude=["out"], kl_clip=0.01)
    fit(model, optimizer, 3)
    other, copied = clone((model, optimizer))
    assert copied.coverage() == optimizer.coverage()
    for mine, theirs in zip(train_on(other, copied), train_on(model, optimizer), strict=True):
        assert torch.equal(mine, theirs)
    assert copied.state[other.embed.weight].keys() >= {"exp_avg", "exp_avg_sq"}


@pytest.mark.filterwarnings("ignore:AdamW trains")
def test_counters_stay_where_the_layer_that_has_them_is_left_and_frozen() -> None:
    model = Tied("linear")
    optimizer = KFAC(model, likelihood="categorical", exclude=["out"], kl_clip=0.01)
    fit(model, optimizer, 3)
    assert optimizer.state[model.embed.weight]["steps"] == 3
    model.embed.requires_grad_(False)
    fit(model, optimizer, 2, 3)
    assert "steps" not in optimizer.state[model.embed.weight]
    assert optimizer.state[model.inner.weight]["steps"] == 5
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    end = train_on(model, optimizer)
    model = Tied("linear")
    model.embed.requires_grad_(False)
    optimizer = KFAC(model, likelihood="categorical", exclude=["out"], kl_clip=0.01)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for mine, theirs in zip(train_on(model, optimizer), end, strict=True):
        assert torch.equal(mine, theirs)
