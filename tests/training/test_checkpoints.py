"""The traps of saving, loading and copying optimizer state in torch, one test each."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import functional

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC

X, LABELS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "ekfac": {"eigen_correction": True, "kl_clip": 1e-2},
    "adaptive": {"adaptive_damping": True, "quadratic_model": True, "adaptation_interval": 2},
    "empirical": {"fisher": "empirical", "recover": True, "inverse_interval": 3},
    "grouped": {"groups": [{"modules": ["0"], "lr": 0.03}], "exact_damping": True},
}


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Covered layers of each kind, a frozen one, and a weight for AdamW."""
    model = nn.Sequential(
        nn.Linear(3, 4), nn.PReLU(), nn.LayerNorm(4), nn.Linear(4, 4), nn.Dropout(0.1),
        nn.Linear(4, 3),
    )  # fmt: skip
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    model[3].requires_grad_(False)
    return model.to(dtype)


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    x = X.to(next(model.parameters()).dtype)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), LABELS)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


def start(dtype: torch.dtype = torch.float64, **options: Any) -> tuple[nn.Module, KFAC]:
    model = network(dtype)
    return model, KFAC(model, likelihood="categorical", **options)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("split", [0, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resume_is_bit_exact_in_every_mode(mode: str, split: int, dtype: torch.dtype) -> None:
    straight, optimizer = start(dtype, **MODES[mode])
    torch.manual_seed(0)
    losses = advance(straight, optimizer, 15)
    first, optimizer = start(dtype, **MODES[mode])
    torch.manual_seed(0)
    head = advance(first, optimizer, split)
    states = through_a_file(first.state_dict()), through_a_file(optimizer.state_dict())
    with torch.random.fork_rng():  # building layers draws from the generator of dropout
        second, resumed = start(dtype, **MODES[mode])
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert head + advance(second, resumed, 15 - split) == losses
    for p, q in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("mode", MODES)
def test_the_form_of_the_state_is_the_same_from_the_beginning(mode: str) -> None:
    model, optimizer = start(**MODES[mode])

    def form(state: dict[str, Any]) -> dict[Any, Any]:
        return {
            index: {key: (type(v), getattr(v, "shape", None), getattr(v, "dtype", None))
                    for key, v in entries.items()}
            for index, entries in state["state"].items()
        }  # fmt: skip

    before = form(optimizer.state_dict())
    advance(model, optimizer, 12)
    assert form(optimizer.state_dict()) == before
    assert before.keys() == set(range(len(list(model.parameters()))))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
@pytest.mark.parametrize("mode", MODES)
def test_a_distributed_checkpoint_resumes_bit_exactly(mode: str, tmp_path: Path) -> None:
    straight, optimizer = start(**MODES[mode])
    torch.manual_seed(0)
    losses = advance(straight, optimizer, 12)
    first, optimizer = start(**MODES[mode])
    torch.manual_seed(0)
    head = advance(first, optimizer, 7)
    state = {
        "model": get_model_state_dict(first),
        "optimizer": get_optimizer_state_dict(first, optimizer),
    }
    dcp.save(state, checkpoint_id=tmp_path)
    with torch.random.fork_rng():
        second, resumed = start(**MODES[mode])
    loaded = {
        "model": get_model_state_dict(second),
        "optimizer": get_optimizer_state_dict(second, resumed),
    }
    dcp.load(loaded, checkpoint_id=tmp_path)
    set_model_state_dict(second, loaded["model"])
    set_optimizer_state_dict(second, resumed, loaded["optimizer"])
    assert head + advance(second, resumed, 5) == losses


@pytest.mark.parametrize("mode", ["plain", "ekfac", "empirical", "grouped"])
def test_a_first_step_with_zero_gradients_and_no_learning_rate_moves_nothing(mode: str) -> None:
    """As distributed checkpoints take it for optimizers that have no state yet."""
    model, optimizer = start(**MODES[mode])
    before = [p.detach().clone() for p in model.parameters()]
    rates = [group["lr"] for group in optimizer.param_groups]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step(closure=None)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
    advance(model, optimizer, 10)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.isfinite().all()
        assert torch.equal(parameter, old) != parameter.requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_zero_gradients_later_make_no_nan(mode: str) -> None:
    model, optimizer = start(**MODES[mode])
    advance(model, optimizer, 3)
    functional.cross_entropy(model(X.double()), LABELS).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step(lambda: 1.0) if mode == "adaptive" else optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("other", [{"eigen_correction": True}, {"recover": True}])
def test_the_state_of_another_kind_of_kfac_is_refused(other: dict[str, Any]) -> None:
    model, optimizer = start()
    advance(model, optimizer, 2)
    changed = KFAC(model, likelihood="categorical", **other)
    before = copy.deepcopy(changed.state_dict())
    with pytest.raises(InvalidInputError, match="same options and model, got another"):
        changed.load_state_dict(optimizer.state_dict())
    assert str(changed.state_dict()) == str(before)


def test_the_state_of_another_model_is_refused() -> None:
    _, optimizer = start()
    wide = nn.Sequential(nn.Linear(3, 5), nn.PReLU(), nn.LayerNorm(5), nn.Linear(5, 4),
                         nn.Dropout(0.1), nn.Linear(4, 3))  # fmt: skip
    with pytest.raises(InvalidInputError, match="module '0'"):
        KFAC(wide, likelihood="categorical").load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("mode", ["plain", "ekfac"])
def test_float64_factors_of_a_bfloat16_model_survive(mode: str) -> None:
    model, optimizer = start(torch.bfloat16, **MODES[mode])
    advance(model, optimizer, 2)
    resumed = KFAC(model, likelihood="categorical", **MODES[mode])
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    for name, value in optimizer.state[model[0].weight].items():
        if isinstance(value, Tensor):
            loaded = resumed.state[model[0].weight][name]
            assert loaded.dtype == value.dtype != torch.bfloat16
            assert torch.equal(loaded, value)
