"""Which dimension of the outputs a distribution is over, and which entries the loss uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.training.events import ClassDimension, as_outputs, events, used_entries

Loss = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient_of(loss: Loss, z: Tensor) -> Tensor:
    z = z.detach().requires_grad_()
    return torch.autograd.grad(loss(z), z)[0]


def test_events_of_outputs() -> None:
    z = torch.zeros(5)
    assert events(z, "categorical").shape == (1, 1, 5)
    assert events(z, "bernoulli").shape == events(z, "normal").shape == (5, 1, 1)
    assert events(torch.zeros(5, 2, 3, 4), "normal").shape == (5, 6, 4)
    assert events(torch.zeros(5, 2, 3, 4), "normal", 1).shape == (5, 12, 2)
    assert events(torch.zeros(0, 2, 3, 4), "normal").shape == (0, 6, 4)


@pytest.mark.parametrize(("shape", "dim"), [((5,), -1), ((5, 3), 1), ((4, 3, 2, 5), 1)])
def test_outputs_and_events_are_one_to_one(shape: tuple[int, ...], dim: int) -> None:
    z = normal(*shape)
    for likelihood in ("categorical", "normal"):
        assert torch.equal(as_outputs(events(z, likelihood, dim), z, dim), z)


def channels_first(**options: Any) -> Loss:
    def loss(z: Tensor) -> Tensor:
        y = torch.arange(z[:, 0].numel()).reshape(z[:, 0].shape) % z.shape[1]
        return functional.cross_entropy(z, y, **options)

    return loss


def focal(z: Tensor) -> Tensor:
    log_p = z.log_softmax(1)[:, 0]
    return -((1 - log_p.exp()).square() * log_p).mean()


LOSSES = {
    "plain": channels_first(),
    "smoothed": channels_first(label_smoothing=0.1),
    "weighted": channels_first(weight=torch.linspace(0.1, 3, 4).double()),
    "focal": focal,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 6), (3, 4, 4), (2, 4, 2, 3, 4)])
def test_the_classes_are_where_the_loss_does_not_change(name: str, shape: tuple[int, ...]) -> None:
    z, loss = normal(*shape), LOSSES[name]
    if name == "weighted":
        assert z.shape[1] == 4
    assert ClassDimension("categorical").of(z, gradient_of(loss, z)) == 1
    last = z.movedim(1, -1)
    found = ClassDimension("categorical").of(
        last, gradient_of(lambda u: loss(u.movedim(-1, 1)), last)
    )
    assert found == -1


def test_half_precision_tells_the_dimensions_apart() -> None:
    z = normal(8, 2, 64, 64)
    for dtype in (torch.bfloat16, torch.float16):
        g = gradient_of(channels_first(reduction="sum"), z).to(dtype)
        assert ClassDimension("categorical").of(z, g) == 1


def test_the_dimension_is_found_once_and_not_from_zeros_or_nan() -> None:
    z = normal(3, 4, 5)
    found = ClassDimension("categorical")
    for value in (0.0, torch.nan):
        assert found.of(z, torch.full_like(z, value)) == -1
    assert found.of(z, gradient_of(channels_first(), z)) == 1
    assert found.of(z, torch.ones_like(z)) == 1


def test_other_outputs_and_likelihoods_have_the_last_dimension_or_the_given_one() -> None:
    z = normal(3, 4, 5)
    assert ClassDimension("normal").of(z, torch.ones_like(z)) == -1
    assert ClassDimension("categorical").of(z[0], torch.ones_like(z[0])) == -1
    assert ClassDimension("normal", 1).of(z, torch.ones_like(z)) == 1
    assert ClassDimension("categorical", -2).of(z, torch.ones_like(z)) == -2


def test_a_loss_of_no_softmax_is_refused_where_the_dimension_is_open() -> None:
    z = normal(3, 4, 5)
    with pytest.raises(InvalidInputError, match=r"sums to 0 over neither.*name the dimension"):
        ClassDimension("categorical").of(z, gradient_of(lambda u: u.square().sum(), z))


@pytest.mark.parametrize("given", [0, 3, -3, -4])
def test_dimensions_that_hold_rows_or_are_not_there_are_refused(given: int) -> None:
    with pytest.raises(InvalidInputError, match=f"class_dim must be a dimension.*got {given}"):
        ClassDimension("categorical", given).of(normal(3, 4, 5))


@pytest.mark.parametrize("given", [1.0, "last", True])
def test_dimensions_that_are_no_numbers_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="class_dim must be a whole number"):
        ClassDimension("categorical", given)


def used_by(loss: Loss, z: Tensor, likelihood: str) -> Tensor:
    return used_entries(z[:, None], gradient_of(loss, z)[:, None], likelihood)[:, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_the_loss_ignores_are_not_used(dtype: torch.dtype) -> None:
    z = normal(6, 4, dtype=dtype)
    y = torch.tensor([0, -100, 2, -100, 1, 3])
    used = used_by(lambda u: functional.cross_entropy(u, y), z, "categorical")
    assert used[:, 0].tolist() == (y >= 0).tolist()


def test_rows_that_are_certain_of_their_label_are_used() -> None:
    """Their gradient is 0 too, for the probability of the label rounds to 1."""
    z = normal(6, 3, dtype=torch.float32)
    z[1:3, 0] = 200.0
    y = torch.tensor([0, 0, 0, -100, 1, 2])
    used = used_by(lambda u: functional.cross_entropy(u, y), z, "categorical")
    assert used[:, 0].tolist() == (y >= 0).tolist()
    z = normal(4, 1, dtype=torch.float32)
    z[1:3] = 30.0
    w = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None]
    target = torch.ones_like(z)
    used = used_by(
        lambda u: functional.binary_cross_entropy_with_logits(u, target, w), z, "bernoulli"
    )
    assert used[:, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_masked_entries_of_independent_targets_are_not_used(likelihood: str) -> None:
    z, mask = normal(5, 3), normal(5, 3, seed=1) > 0

    def loss(u: Tensor) -> Tensor:
        if likelihood == "normal":
            return ((u - 1).square() * mask).sum()
        target = torch.ones_like(u)
        return (functional.binary_cross_entropy_with_logits(u, target, mask.double())).sum()

    assert torch.equal(used_by(loss, z, likelihood), mask)


def test_a_loss_that_is_constant_uses_nothing() -> None:
    z = normal(5, 3)
    assert not used_by(lambda u: 0 * u.sum(), z, "categorical").any()
    assert_close(used_by(lambda u: 0 * u.sum(), z, "normal").sum(), torch.tensor(0))
