from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC

FactorsOf = Callable[..., dict[str, tuple[Tensor, Tensor]]]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(inplace: bool = False) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=inplace), nn.Linear(5, 3)).double()
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(index))
    return model


def assert_factors_close(
    first: dict[str, tuple[Tensor, Tensor]], second: dict[str, tuple[Tensor, Tensor]]
) -> None:
    assert first.keys() == second.keys()
    for name, (a, g) in first.items():
        assert_close(a, second[name][0], atol=1e-10, rtol=1e-10)
        assert_close(g, second[name][1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("shape", [(6, 4), (6, 2, 4), (6, 2, 3, 4)])
def test_inplace_activations_change_no_factor(
    shape: tuple[int, ...], factors_of: FactorsOf
) -> None:
    x = normal(*shape)
    plain = factors_of(network(), x, likelihood="categorical")
    assert plain["0"][1].norm() > 0
    assert_factors_close(plain, factors_of(network(inplace=True), x, likelihood="categorical"))


def test_factors_are_averaged_over_the_rows_of_all_forward_passes(factors_of: FactorsOf) -> None:
    x = normal(7, 4)
    whole = factors_of(network(), x)
    assert_factors_close(whole, factors_of(network(), x[:2], x[2:]))
    assert_factors_close(whole, factors_of(network(), torch.cat([x, x])))


def test_positions_that_do_not_mix_count_as_rows(factors_of: FactorsOf) -> None:
    x = normal(6, 2, 4)
    assert_factors_close(
        factors_of(network(), x, likelihood="categorical"),
        factors_of(network(), x.reshape(12, 4), likelihood="categorical"),
    )


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()[0]
        self.outer = nn.Linear(5, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x[:, 0])).tanh() + self.outer(self.inner(x[:, 1]))


class TwiceAsPositions(Twice):
    def forward(self, x: Tensor) -> Tensor:
        z = self.outer(self.inner(x))
        return z[:, 0].tanh() + z[:, 1]


def test_a_module_called_twice_is_a_module_with_two_positions(factors_of: FactorsOf) -> None:
    x = normal(6, 2, 4)
    first, second = Twice(), TwiceAsPositions()
    second.load_state_dict(first.state_dict())
    assert_factors_close(factors_of(first, x), factors_of(second, x))


def test_gradients_of_all_parameters_stay_as_they_are() -> None:
    model, x = network(), normal(6, 4)
    model(x).square().mean().backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    optimizer = KFAC(model, likelihood="normal")
    z = model(x.requires_grad_())
    assert all(p.grad is None for p in [*model.parameters(), x])
    z.square().mean().backward()
    for parameter, gradient in zip(model.parameters(), plain, strict=True):
        assert torch.equal(parameter.grad, gradient)
    optimizer.remove_hooks()


def test_passes_without_gradients_are_not_collected() -> None:
    model, x = network(), normal(6, 4)
    optimizer = KFAC(model, likelihood="normal")
    with torch.no_grad():
        model(x)
    assert not optimizer._capture.take()
    model(x).sum().backward()
    assert optimizer._capture.take()


def test_frozen_layers_are_not_collected() -> None:
    model, x = network(), normal(6, 4)
    model[0].requires_grad_(False)
    optimizer = KFAC(model, likelihood="normal")
    before = model[0].weight.clone()
    model(x).square().mean().backward()
    optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert optimizer.state[model[0].weight]["factor_updates"] == 0
    model[0].requires_grad_(True)
    model(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_the_model_is_not_hooked(clone: Callable[[nn.Module], nn.Module]) -> None:
    model, x = network(), normal(6, 4)
    optimizer = KFAC(model, likelihood="normal")
    copied = clone(model)
    assert torch.equal(copied(x), model(x))
    optimizer._capture.take()
    copied(x).sum().backward()
    assert not optimizer._capture.take()


def test_removed_hooks_leave_nothing_on_the_model() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="normal")
    optimizer.remove_hooks()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_hooks_of_a_dropped_optimizer_do_nothing() -> None:
    model, x = network(), normal(6, 4)
    optimizer = KFAC(model, likelihood="normal", fisher="mc")
    generator = optimizer._generator
    before = generator.get_state()
    z = model(x)
    del optimizer
    gc.collect()
    z.sum().backward()
    model(x).sum().backward()
    assert torch.equal(generator.get_state(), before)


class Checkpointed(nn.Module):
    def __init__(self, use: bool) -> None:
        super().__init__()
        self.layers = network()
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.layers, x, use_reentrant=False) if self.use else self.layers(x)


def test_checkpointing_changes_no_factor_and_no_gradient(factors_of: FactorsOf) -> None:
    x = normal(6, 4)
    assert_factors_close(factors_of(Checkpointed(True), x), factors_of(Checkpointed(False), x))
    gradients = []
    for use in (True, False):
        model = Checkpointed(use)
        optimizer = KFAC(model, likelihood="normal", fisher="type2")
        model(x).square().mean().backward()
        optimizer.step()
        gradients.append(model.layers[0].weight)
    assert_close(*gradients)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](input=self.layers[0](input=x).relu())


def test_layers_may_be_called_with_keywords(factors_of: FactorsOf) -> None:
    x = normal(6, 4)
    ours = factors_of(Keywords(), x)
    expected = factors_of(network(), x)
    assert_factors_close(ours, {f"layers.{name}": factors for name, factors in expected.items()})


class Auxiliary(nn.Module):
    """A head whose result does not reach the output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()
        self.head = nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        self.extra = self.head(x)
        return self.layers(x)


def test_layers_that_do_not_reach_the_output_have_no_factors(factors_of: FactorsOf) -> None:
    assert factors_of(Auxiliary(), normal(6, 4)).keys() == {"layers.0", "layers.2"}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x), x


def test_outputs_that_are_not_one_tensor_are_refused() -> None:
    model = Pair()
    _optimizer = KFAC(model, likelihood="normal")
    with pytest.raises(InvalidInputError, match=r"one tensor of logits.*got tuple"):
        model(normal(6, 4))


def test_autocast_accumulates_in_float32() -> None:
    model = network().float()
    optimizer = KFAC(model, likelihood="categorical")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(normal(6, 4).float()), torch.arange(6) % 3)
    loss.backward()
    optimizer.step()
    state = optimizer.state[model[0].weight]
    assert state["input_factor"].dtype == state["output_factor"].dtype == torch.float32
    assert state["output_factor"].norm() > 0
