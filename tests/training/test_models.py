from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fisherbo.errors import InvalidInputError
from fisherbo.training import autoencoder, mlp
from fisherbo.training.models import sparse_weight

widths = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def linear_widths(model: nn.Module) -> list[int]:
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


@given(st.integers(1, 40), widths, st.integers(0, 100))
def test_autoencoder_is_mirrored_with_a_linear_code(n: int, hidden: list[int], seed: int) -> None:
    model = autoencoder(n, hidden, seed)
    assert linear_widths(model) == [n, *hidden, *hidden[-2::-1], n]
    code = 2 * len(hidden) - 2
    assert isinstance(model[code], nn.Linear)
    assert isinstance(model[code + 1], nn.Linear)
    assert isinstance(model[-1], nn.Linear)
    assert sum(isinstance(m, nn.Tanh) for m in model) == 2 * len(hidden) - 2
    assert model(torch.zeros(3, n)).abs().max() == 0  # zero biases


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 100))
def test_sparse_weights_have_fifteen_inputs_a_unit(n_out: int, n_in: int, seed: int) -> None:
    weight = sparse_weight(n_out, n_in, torch.Generator().manual_seed(seed))
    assert ((weight != 0).sum(1) == min(15, n_in)).all()


def test_sparse_weights_are_standard_normal() -> None:
    weight = sparse_weight(4000, 20, torch.Generator().manual_seed(0))
    kept = weight[weight != 0]
    assert abs(kept.mean()) < 0.02
    assert abs(kept.std() - 1) < 0.02


def test_mlp_has_relu_between_its_layers() -> None:
    model = mlp(7, (400, 300), 2)
    assert linear_widths(model) == [7, 400, 300, 2]
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert model[2].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    "build", [lambda s: autoencoder(9, (5, 2), s), lambda s: mlp(9, (5,), 2, s)]
)
def test_weights_follow_the_seed_alone(build: object) -> None:
    before = torch.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


@pytest.mark.parametrize("hidden", [(), (0,), (4, -1)])
def test_bad_widths_are_refused(hidden: tuple[int, ...]) -> None:
    for build in (lambda: autoencoder(3, hidden), lambda: mlp(3, hidden, 2)):
        with pytest.raises(InvalidInputError, match="widths"):
            build()
