"""Steps scaled by the second moments of the gradient: directions, length, invariance."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC
from fisherbo.training.blocks import Scheme, eigenbasis, empty_state, factorise
from fisherbo.training.coverage import Layer, examine
from fisherbo.training.second_moments import allowed_share, directions, length, noise_shares
from fisherbo.training.update import Block


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def positive_definite(size: int, seed: int) -> Tensor:
    root = normal(size, 2 * size, seed=seed)
    return root @ root.mT / size


SCHEME = Scheme(gradient_moments=True)


def decomposed(n_in: int = 4, n_out: int = 3, seed: int = 0) -> tuple[Layer, dict[str, Any]]:
    """A linear layer without a bias whose factors are random and decomposed."""
    layers, _ = examine(nn.Sequential(nn.Linear(n_in, n_out, bias=False)).double())
    state = empty_state(layers[0], SCHEME)
    state["input_factor"] = positive_definite(n_in, seed + 1)
    state["output_factor"] = positive_definite(n_out, seed + 2)
    factorise(layers[0], SCHEME, state, 0.0)
    return layers[0], state


def block(layer: Layer, state: dict[str, Any], gradient: Tensor, momentum: float = 0.9) -> Block:
    group = {"momentum": momentum, "weight_decay": 0.0, "decoupled_weight_decay": True}
    return Block(layer, state, group, gradient)


def test_directions_are_adams_in_the_coordinates_of_the_eigenbasis() -> None:
    """Gradients shrink, so that none is clipped."""
    layer, state = decomposed()
    basis = eigenbasis(layer, state)
    weight = nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
    adam = torch.optim.Adam([weight], lr=1.0, betas=(0.8, 0.95), eps=1e-300)
    for step in range(6):
        own = 0.8**step * normal(3, 4, seed=7).sign() * (1 + 0.1 * normal(3, 4, seed=step))
        gradient = basis.matrix(own)
        before = weight.detach().clone()
        weight.grad = own
        adam.step()
        found = directions([block(layer, state, gradient, 0.8)], 0.95)
        expected = basis.matrix(before - weight.detach())
        assert_close(found.updates[0], expected, rtol=1e-3, atol=1e-3)  # no ε of a root mean square


def test_a_batch_enters_the_momentum_with_a_mean_square_of_at_most_one() -> None:
    layer, state = decomposed()
    basis = eigenbasis(layer, state)
    mean = square = torch.zeros(3, 4, dtype=torch.float64)
    for step in range(12):
        gradient = (50.0 if step == 8 else 1.0) * normal(3, 4, seed=step)
        found = directions([block(layer, state, gradient, 0.8)], 0.95)
        own = basis.coordinates(gradient)
        square = 0.95 * square + 0.05 * own.square()
        root = (square / (1 - 0.95 ** (step + 1))).sqrt()
        size = float((own / root).square().mean().sqrt())
        mean = 0.8 * mean + 0.2 * own / max(1.0, size)
        expected = basis.matrix(mean / (1 - 0.8 ** (step + 1)) / root)
        assert_close(found.updates[0], expected, rtol=2e-3, atol=2e-3)
        if step == 8:
            assert size > 2.5


def test_lengths_are_those_of_the_dense_fisher() -> None:
    layer, state = decomposed()
    gradient = normal(3, 4, seed=7)
    found = directions([block(layer, state, gradient)], 0.95)
    update = found.updates[0]
    fisher = state["output_factor"] @ update @ state["input_factor"]
    assert_close(length(found, [0.3]), float(0.09 * (update * fisher).sum()))
    assert_close(found.slopes[0], (gradient * update).sum())


def test_the_share_brings_a_step_along_one_gradient_to_the_limit() -> None:
    layer, state = decomposed()
    found = directions([block(layer, state, normal(3, 4, seed=7))], 0.95)
    share = allowed_share(found, [0.3], 1e-3)
    assert 0 < share < 1
    assert_close(length(found, [0.3 * share]), 1e-3)  # the first step is along its gradient
    assert allowed_share(found, [0.3], None) == allowed_share(found, [0.3], 1e9) == 1


def test_agreeing_gradients_move_further_than_noise() -> None:
    lengths = {}
    for kind in ("agreeing", "noise"):
        layer, state = decomposed()
        for step in range(60):
            gradient = normal(3, 4, seed=7) if kind == "agreeing" else normal(3, 4, seed=step)
            found = directions([block(layer, state, gradient)], 0.95)
        lengths[kind] = length(found, [allowed_share(found, [1.0], 1e-3)])
    assert_close(lengths["agreeing"], 1e-3)
    assert lengths["noise"] < 0.2 * lengths["agreeing"]  # (1 − .9) / (1 + .9) on average


def test_coherence_tells_agreeing_gradients_from_noise() -> None:
    layer, state = decomposed(40, 30)
    for step in range(60):
        found = directions([block(layer, state, normal(30, 40, seed=step))], 0.95)
    assert found.coherence.item() == pytest.approx(0.1 / 1.9, rel=0.2)  # (1 − μ) / (1 + μ)
    layer, state = decomposed(40, 30)
    for _ in range(60):
        found = directions([block(layer, state, normal(30, 40, seed=0))], 0.95)
    assert found.coherence.item() == pytest.approx(1)


def test_the_learning_rate_falls_with_the_root_of_the_entries_that_are_noise() -> None:
    blocks = [
        block(*decomposed(*size), torch.zeros(())) for size in ((32, 32), (128, 128), (128, 32))
    ]
    noise, half, none = (torch.full((3,), x, dtype=torch.float64) for x in (0.0, 0.75, 1.2))
    assert noise_shares(blocks, noise) == pytest.approx([1, 1 / 4, 1 / 2])
    assert noise_shares(blocks, half) == pytest.approx([1, 1 / 2, 1])
    assert noise_shares(blocks, none) == [1, 1, 1]


def test_a_table_of_embeddings_and_a_normalisation_keep_the_learning_rate() -> None:
    layers, _ = examine(nn.Sequential(nn.Embedding(500, 40), nn.LayerNorm(40)))
    blocks = [block(layer, {}, torch.zeros(())) for layer in layers]
    assert noise_shares(blocks, torch.zeros(2)) == [1, 1]


def test_the_mean_gradient_survives_a_change_of_basis() -> None:
    layer, state = decomposed()
    for step in range(3):
        directions([block(layer, state, normal(3, 4, seed=step))], 0.95)
    before = eigenbasis(layer, state).matrix(state["first_moment"])
    squares = state["second_moment"].sum()
    state["input_factor"] = positive_definite(4, 11)
    state["output_factor"] = positive_definite(3, 12)
    factorise(layer, SCHEME, state, 0.0)
    assert_close(eigenbasis(layer, state).matrix(state["first_moment"]), before)
    assert_close(state["second_moment"].sum(), squares)  # a trace


def test_a_basis_that_nearly_diagonalises_new_factors_is_kept_with_its_moments() -> None:
    layer, state = decomposed()
    for step in range(3):
        directions([block(layer, state, normal(3, 4, seed=step))], 0.95)
    old = {k: v.clone() for k, v in state.items() if isinstance(v, Tensor)}
    state["inverse_update"] = 1
    state["input_factor"] = 2 * state["input_factor"] + 1e-3 * positive_definite(4, 11)
    factorise(layer, SCHEME, state, 0.0)
    for name in ("input_basis", "output_basis", "first_moment", "second_moment"):
        assert torch.equal(state[name], old[name])
    basis = eigenbasis(layer, state)
    fisher = torch.outer(
        *(
            (q.mT @ state[f"{side}_factor"] @ q).diagonal()
            for side, q in (("output", basis.output_basis), ("input", basis.input_basis))
        )
    )
    assert_close(state["root_spectrum"].square(), fisher)


def test_no_gradient_is_no_step() -> None:
    layer, state = decomposed()
    found = directions([block(layer, state, torch.zeros(3, 4, dtype=torch.float64))], 0.95)
    assert not found.updates[0].any()
    assert allowed_share(found, [0.1], 1e-3) == 1


# The optimizer

X, LABELS = normal(64, 6), torch.arange(64) % 3


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    return model.to(dtype)


def train(
    model: nn.Module, x: Tensor = X, steps: int = 12, scale: float = 1.0, **options: Any
) -> KFAC:
    optimizer = KFAC(model, likelihood="categorical", **options)
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * functional.cross_entropy(model(x), LABELS)).backward()
        optimizer.step()
    return optimizer


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_scale_of_the_loss_is_no_matter() -> None:
    one, other = network(), network()
    train(one)
    train(other, scale=1e4)
    assert_close(weights(one), weights(other))


def test_rotated_inputs_give_the_rotated_network() -> None:
    rotation = torch.linalg.qr(normal(6, 6, seed=5)).Q
    one, other = network(), network()
    with torch.no_grad():
        other[0].weight.copy_(one[0].weight @ rotation)
    train(one)
    train(other, X @ rotation)
    assert_close(other(X @ rotation), one(X), rtol=1e-6, atol=1e-6)


def test_weights_of_inputs_that_are_always_0_stay() -> None:
    x = X.clone().float()
    x[:, 2] = 0
    model = network(torch.float32)
    before = model[0].weight.detach()[:, 2].clone()
    train(model, x, steps=40)
    moved = (model[0].weight.detach()[:, 2] - before).abs().max()
    assert moved < 0.02  # rounding is no gradient: 40 steps are less than one of lr


def test_a_schedule_shortens_steps_in_proportion() -> None:
    moves = []
    for lr in (0.02, 0.01, 0.0):
        model = network()
        optimizer = train(model, steps=3)
        before = weights(model)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        functional.cross_entropy(model(X), LABELS).backward()
        optimizer.step()
        moves.append(weights(model) - before)
    assert_close(moves[1], 0.5 * moves[0])
    assert not moves[2].any()


def test_a_higher_rate_lengthens_no_step_beyond_the_limit() -> None:
    divergences = []
    for lr in (0.02, 5.0):
        model = network()
        optimizer = train(model, steps=3, kl_clip=1e-5)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        functional.cross_entropy(model(X), LABELS).backward()
        optimizer.step()
        divergences.append(optimizer.last_step.kl)
    assert divergences[1] == pytest.approx(divergences[0])


def test_the_report_tells_the_step() -> None:
    model = network()
    step = train(model, kl_clip=1e-4).last_step
    assert step.lr == pytest.approx(0.02 * step.clip)
    assert 0 < step.clip < 1
    assert 0 < step.kl
    assert step.slope > 0


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("copies", [1, 4])
def test_the_default_limit_is_for_each_scalar_in_units_of_its_residual(
    copies: int, unit: float
) -> None:
    model = nn.Sequential(nn.Linear(6, copies)).double()
    optimizer = KFAC(model, likelihood="normal", lr=1e9)
    residual = model(X) - unit * normal(64, 1)
    squares = residual.square().sum(1).mean()
    (squares if copies == 1 else 0.5 * squares).backward()  # MSELoss, and ½ Σ of several outputs
    optimizer.step()
    assert optimizer.last_step.kl == pytest.approx(0.01 * squares.item())


@pytest.mark.parametrize(
    "options",
    [
        {"damping": 0.1},
        {"damping": lambda step: 0.1},
        {"exact_damping": True},
        {"eigen_correction": True},
        {"adaptive_damping": True},
        {"quadratic_model": True},
    ],
)
def test_options_of_a_damped_fisher_choose_it_and_contradict_the_gradient(
    options: dict[str, Any],
) -> None:
    found = KFAC(network(), likelihood="categorical", **options)
    assert "momentum_buffer" in found.state_dict()["state"][0]
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        KFAC(network(), likelihood="categorical", second_moment="gradient", **options)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="second_moment must be one of"):
        KFAC(network(), likelihood="categorical", second_moment="adam")


def test_what_adamw_trains_follows_the_length_of_the_step() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 3)).double()
    before = model[1].weight.detach().clone()
    optimizer = train(model, steps=1, kl_clip=1e-6)
    moved = (model[1].weight - before).abs().max().item()
    assert moved == pytest.approx(0.02 * optimizer.last_step.clip, rel=0.05)


@pytest.mark.parametrize("lr", [1e-3, 0.02, 1.0, 1e3])
@pytest.mark.parametrize("second_moment", ["gradient", "fisher"])
def test_no_learning_rate_diverges(lr: float, second_moment: Any) -> None:
    model = network(torch.float32)
    x = X.float()
    optimizer = KFAC(model, likelihood="categorical", lr=lr, second_moment=second_moment)
    first = functional.cross_entropy(model(x), LABELS).item()
    worst = -math.inf
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), LABELS)
        worst = max(worst, loss.item())
        loss.backward()
        optimizer.step()
    assert worst < 2 * first
