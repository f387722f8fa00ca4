"""The exact natural gradient against dense solves, K-FAC where it is exact, and an invariance."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

import fisherbo
from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import KFAC, NaturalGradient


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, LABELS = normal(12, 4), torch.arange(12) % 3
EXACT = {"tolerance": 1e-13, "max_iterations": 1000}


def network(*extra: nn.Module) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(), *extra, nn.Linear(5, 3)).double()
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    return model


def loss_of(z: Tensor, likelihood: str) -> Tensor:
    if likelihood == "categorical":
        return functional.cross_entropy(z.flatten(0, -2), LABELS.repeat(z[..., 0].numel() // 12))
    target = torch.ones_like(z)
    if likelihood == "bernoulli":
        total = functional.binary_cross_entropy_with_logits(z, target, reduction="sum")
    else:
        total = 0.5 * (z - target).square().sum()
    return total / z[..., 0].numel()


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model(X), "categorical")
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


def dense_ggn(model: nn.Module, x: Tensor, likelihood: str) -> Tensor:
    parameters = dict(model.named_parameters())

    def outputs(*values: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(model, named, x).flatten(0, -2)

    values = tuple(p.detach() for p in parameters.values())
    jacobians = torch.autograd.functional.jacobian(outputs, values)
    jacobian = torch.cat([j.flatten(2) for j in jacobians], 2)
    z = outputs(*values)
    if likelihood == "categorical":
        p = z.softmax(1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    else:
        p = z.sigmoid()
        variance = p * (1 - p) if likelihood == "bernoulli" else torch.ones_like(z)
        hessian = torch.diag_embed(variance)
    return torch.einsum("ncp,ncd,ndq->pq", jacobian, hessian, jacobian) / len(z)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
@pytest.mark.parametrize("shape", [(12, 4), (12, 2, 4)])
def test_a_step_solves_the_dense_system(likelihood: str, shape: tuple[int, ...]) -> None:
    model, x = network(), normal(*shape)
    optimizer = NaturalGradient(
        model, likelihood=likelihood, lr=0.3, damping=0.02, weight_decay=0.01, momentum=0.5, **EXACT
    )
    velocity = torch.zeros(sum(p.numel() for p in model.parameters())).double()
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model(x), likelihood).backward()
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        model.eval()
        ggn = dense_ggn(model, x, likelihood)
        model.train()
        g = torch.cat([p.grad.flatten() for p in model.parameters()]) + 0.01 * before
        natural = torch.linalg.solve(ggn + 0.03 * torch.eye(len(ggn)).double(), g)
        velocity = 0.5 * velocity + natural
        optimizer.step()
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        assert_close(after, before - 0.3 * velocity, atol=1e-9, rtol=1e-8)
        assert optimizer.last_step.slope == pytest.approx(float(g @ natural), rel=1e-8)


def test_it_is_kfac_where_kfac_is_exact() -> None:
    first = nn.Linear(4, 3).double()
    second = copy.deepcopy(first)
    options = {"likelihood": "normal", "lr": 0.3, "damping": 0.05, "momentum": 0.6}
    exact = NaturalGradient(first, **options, **EXACT)
    kronecker = KFAC(second, fisher="type2", exact_damping=True, kl_clip=None, **options)
    for _ in range(5):
        for model, optimizer in ((first, exact), (second, kronecker)):
            optimizer.zero_grad()
            loss_of(model(X), "normal").backward()
            optimizer.step()
    assert_close(first.weight, second.weight, atol=1e-10, rtol=1e-8)
    assert_close(first.bias, second.bias, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_batch_size_and_accumulation_change_nothing(parts: int) -> None:
    results = []
    for times, count in ((1, 1), (2, parts)):
        model = network()
        optimizer = NaturalGradient(model, likelihood="categorical", damping=0.1, **EXACT)
        x, y = X.repeat(times, 1), LABELS.repeat(times)
        for _ in range(3):
            optimizer.zero_grad()
            for chunk, labels in zip(
                x.split(len(x) // count), y.split(len(x) // count), strict=True
            ):
                weight = len(chunk) / len(x)
                (weight * functional.cross_entropy(model(chunk), labels)).backward()
            optimizer.step()
        results.append([p.detach() for p in model.parameters()])
    for p, q in zip(*results, strict=True):
        assert_close(p, q, atol=1e-9, rtol=1e-8)


def test_scaling_the_units_of_the_inputs_changes_no_trajectory_as_damping_vanishes() -> None:
    """One layer: F is invertible, so that the step in the other chart is the same step."""
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0]).double()
    first = nn.Linear(4, 2).double()
    second = copy.deepcopy(first)
    with torch.no_grad():
        second.weight.div_(scale)
    y = (normal(12, 2, seed=1) > 0).double()
    for model, x in ((first, X), (second, X * scale)):
        optimizer = NaturalGradient(model, likelihood="bernoulli", lr=0.5, damping=1e-12, **EXACT)
        for _ in range(4):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model(x), y, reduction="sum").div(
                12
            ).backward()
            optimizer.step()
    assert_close(first.weight, second.weight * scale, atol=1e-6, rtol=1e-6)


def test_dropout_statistics_generators_and_gradients_stay_as_they_are() -> None:
    model = network(nn.Dropout(0.3), nn.BatchNorm1d(5).double())
    reference = copy.deepcopy(model)
    optimizer = NaturalGradient(model, likelihood="categorical")
    torch.manual_seed(0)
    loss_of(model(X), "categorical").backward()
    optimizer.step()
    after = torch.rand(1)
    torch.manual_seed(0)
    loss_of(reference(X), "categorical").backward()
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(model[3].running_var, reference[3].running_var)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_the_dropout_mask_is_that_of_the_users_pass() -> None:
    """A fixed mask is a linear layer with fewer inputs: the step is the dense one of that layer."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).double()
    optimizer = NaturalGradient(model, likelihood="normal", damping=0.01, **EXACT)
    torch.manual_seed(1)
    z = model(X)
    torch.manual_seed(1)
    masked = torch.cat([functional.dropout(X, 0.5), torch.ones(12, 1).double()], 1)
    loss_of(z, "normal").backward()
    g = torch.cat([model[1].weight.grad, model[1].bias.grad[:, None]], 1)
    before = model[1].weight.detach().clone()
    optimizer.step()
    fisher = masked.T @ masked / 12 + 0.01 * torch.eye(5).double()
    assert_close(before - model[1].weight, torch.linalg.solve(fisher, g.T).T[:, :4])


def test_few_steps_train_what_kfac_cannot_cover() -> None:
    model = nn.Sequential(nn.PReLU(4), nn.Bilinear(4, 4, 3)).double()

    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            h = self.parts[0](x)
            return self.parts[1](h, h)

    whole = Squared()
    optimizer = NaturalGradient(whole, likelihood="categorical", lr=0.5, kl_clip=0.1)
    losses = advance(whole, optimizer, 20)
    assert losses[-1] < 0.05 * losses[0]


def test_kl_clip_and_report() -> None:
    model = network()
    optimizer = NaturalGradient(
        model, likelihood="categorical", kl_clip=1e-5, damping=1e-6, **EXACT
    )
    before = model(X).detach().log_softmax(1)
    advance(model, optimizer, 1)
    after = model(X).detach().log_softmax(1)
    assert optimizer.last_step.kl <= 0.5e-5 * (1 + 1e-9)
    kl = (before.exp() * (before - after)).sum(1).mean().item()
    assert kl == pytest.approx(optimizer.last_step.kl, rel=0.15)


def test_resume_is_bit_exact() -> None:
    straight = network()
    losses = advance(straight, NaturalGradient(straight, likelihood="categorical", momentum=0.5), 6)
    first = network()
    optimizer = NaturalGradient(first, likelihood="categorical", momentum=0.5)
    head = advance(first, optimizer, 3)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    resumed = NaturalGradient(first, likelihood="categorical")
    resumed.load_state_dict(torch.load(buffer))
    optimizer.remove_hooks()
    assert head + advance(first, resumed, 3) == losses


def test_it_is_a_public_name() -> None:
    assert fisherbo.NaturalGradient is NaturalGradient


def test_what_cannot_be_stepped_is_refused() -> None:
    model = network()
    optimizer = NaturalGradient(model, likelihood="categorical")
    with pytest.raises(InvalidInputError, match="since the last step, got none"):
        optimizer.step()
    loss_of(model(X), "categorical").backward()
    model[0].weight.grad[0, 0] = torch.nan
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(DivergedError, match="not finite"):
        optimizer.step()
    for p, q in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping must be > 0"),
        ({"tolerance": 0.0}, r"tolerance must be in \(0, 1\)"),
        ({"max_iterations": 0}, "max_iterations must be a whole number"),
        ({"likelihood": "poisson"}, "likelihood must be one of"),
        ({"model": nn.Tanh()}, "parameters that require a gradient, got none in Tanh"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        NaturalGradient(**({"model": network(), "likelihood": "normal"} | options))
