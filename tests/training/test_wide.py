"""Wide layers: block-diagonal and diagonal factors against dense ones and brute force."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.block_diagonal import BlockDiagonal
from fisherbo.training import KFAC
from fisherbo.training.blocks import Scheme, average, empty_state, factorise, natural
from fisherbo.training.capture import Capture
from fisherbo.training.coverage import Layer, examine
from fisherbo.training.forms import Form, form_of
from fisherbo.training.output_fisher import OutputFisher

LEAST = 6  # the limit of these tests; what is wider is in blocks


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    def __init__(self, first: nn.Module, width: int, channels_last: bool = True) -> None:
        super().__init__()
        self.first, self.head, self.last = first, nn.Linear(width, 3), channels_last
        self.double()
        for index, parameter in enumerate(self.parameters()):
            with torch.no_grad():
                parameter.copy_(0.5 * normal(*parameter.shape, seed=index))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = h if self.last else h.movedim(1, -1)
        return self.head(h.flatten(1, -2).mean(1) if h.ndim > 2 else h)


LAYERS: dict[str, Any] = {
    "linear": lambda: (Net(nn.Linear(13, 9), 9), normal(5, 13)),
    "no bias": lambda: (Net(nn.Linear(14, 9, bias=False), 9), normal(5, 14)),
    "shared": lambda: (Net(nn.Linear(7, 13), 13), normal(5, 4, 7)),
    "conv": lambda: (Net(nn.Conv1d(5, 7, 3, padding=1), 7, False), normal(4, 5, 6)),
    "grouped": lambda: (Net(nn.Conv2d(8, 16, 2, groups=2), 16, False), normal(3, 8, 3, 3)),
    "embedding": lambda: (Net(nn.Embedding(9, 13), 13), torch.arange(20).reshape(4, 5) % 9),
}
SCHEMES = {
    "pi": Scheme(),
    "exact": Scheme(exact_damping=True),
    "reduce": Scheme(sharing="reduce"),
    "ekfac": Scheme(exact_damping=True, eigen_correction=True),
}


def collected(model: nn.Module, x: Tensor, limit: int, sharing: Any = "expand") -> Any:
    layers, _ = examine(model, max_factor_size=limit)
    fisher = OutputFisher("categorical", "type2", 1, torch.Generator())
    capture = Capture(model, layers, fisher, lambda: True, sharing=sharing)
    model(x)
    found = capture.take()
    capture.remove()
    return found


def whole(form: Form, factor: Tensor) -> Tensor:
    """A stored factor as dense matrices, ``(*b, d, d)``."""
    matrix = form.matrix(factor)
    if isinstance(matrix, Tensor):
        return matrix
    blocks = matrix.blocks.flatten(0, -4) if matrix.blocks.ndim > 3 else matrix.blocks[None]
    full = torch.stack([torch.block_diag(*b)[: form.size, : form.size] for b in blocks])
    return full if matrix.blocks.ndim > 3 else full[0]


def masked(form: Form, dense: Tensor) -> Tensor:
    """The diagonal blocks of a dense matrix."""
    index = torch.arange(form.size) // form.block
    return dense * (index[:, None] == index)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("limit", [1, 3, LEAST, 100])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_factors_are_the_diagonal_blocks_of_the_dense_ones(
    name: str, limit: int, sharing: str
) -> None:
    model, x = LAYERS[name]()
    dense = {layer.name: m.factors() for layer, m in collected(model, x, 100, sharing).items()}
    for layer, moments in collected(model, x, limit, sharing).items():
        for side, form in (("input", layer.input_form), ("output", layer.output_form)):
            expected = dense[layer.name][f"{side}_factor"]
            if layer.kind == "embedding" and side == "input":
                expected = torch.diag(expected)
            factor = moments.factors()[f"{side}_factor"]
            assert factor.shape == form.shape(layer.shape[:-2])
            assert form.block <= limit or layer.kind == "embedding"
            assert_close(whole(form, factor), masked(form, expected), atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("limit", [1, 3, LEAST])
@pytest.mark.parametrize("scheme", ["pi", "exact"])
def test_the_natural_gradient_solves_with_the_dense_matrix_of_the_blocks(
    name: str, limit: int, scheme: str
) -> None:
    model, x = LAYERS[name]()
    damping = 0.03
    for layer, moments in collected(model, x, limit).items():
        state = empty_state(layer, SCHEMES[scheme])
        average(state, moments, 0.95)
        factorise(layer, SCHEMES[scheme], state, damping)
        gradient = normal(*layer.shape, seed=7)
        found = natural(layer, SCHEMES[scheme], state, gradient, damping)
        a = whole(layer.input_form, state["input_factor"])
        g = whole(layer.output_form, state["output_factor"])
        d_out, d_in = layer.shape[-2:]
        for index in range(layer.groups):
            a1, g1 = (f[index] if layer.groups > 1 else f for f in (a, g))
            v, b = (t.reshape(-1, d_out, d_in)[index] for t in (found, gradient))
            i_a, i_g = torch.eye(d_in).double(), torch.eye(d_out).double()
            if scheme == "exact":
                product = g1 @ v @ a1 + damping * v
            else:
                pi = ((a1.trace() / d_in) / (g1.trace() / d_out)).sqrt()
                product = (g1 + damping**0.5 / pi * i_g) @ v @ (a1 + pi * damping**0.5 * i_a)
            assert_close(product, b, atol=1e-9, rtol=1e-9)


def train(model: nn.Module, x: Tensor, steps: int = 6, **options: Any) -> tuple[Tensor, KFAC]:
    defaults = {"fisher": "type2", "factor_interval": 2, "damping": 0.05}
    optimizer = KFAC(model, likelihood="categorical", **(defaults | options))
    outputs = []
    for _ in range(steps):
        optimizer.zero_grad()
        z = model(x)
        outputs.append(z.detach())
        functional.cross_entropy(z, torch.arange(len(x)) % 3).backward()
        optimizer.step()
    optimizer.remove_hooks()
    return torch.stack(outputs), optimizer


OPTIONS: dict[str, dict[str, Any]] = {
    "pi": {},
    "exact": {"exact_damping": True},
    "ekfac": {"eigen_correction": True},
    "reduce": {"weight_sharing": "reduce"},
    "model": {"quadratic_model": True},
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", OPTIONS)
def test_layers_in_blocks_train(name: str, options: str) -> None:
    for limit in (1, LEAST):
        model, x = LAYERS[name]()
        z, optimizer = train(
            model, x, 12, max_factor_size=limit, momentum=0.5, kl_clip=0.1, **OPTIONS[options]
        )
        assert optimizer.coverage().wide
        y = torch.arange(len(x)) % 3
        losses = [functional.cross_entropy(row, y).item() for row in z]
        assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("options", ["pi", "exact", "ekfac", "reduce"])
def test_inputs_that_never_meet_train_in_blocks_as_in_a_dense_factor(options: str) -> None:
    """Where A is block-diagonal, the blocks are all of it."""
    x = torch.zeros(8, 12).double()
    for row in range(8):
        part = row % 2
        x[row, 6 * part : 6 * part + 6] = normal(6, seed=row)
    y = [
        train(Net(nn.Linear(12, 4, bias=False), 4), x, max_factor_size=limit, **OPTIONS[options])[0]
        for limit in (6, 100)
    ]
    assert examine(nn.Linear(12, 4, bias=False), max_factor_size=6)[0][0].input_form == Form(12, 6)
    assert (y[0][-1] - y[0][0]).abs().max() > 0.1
    assert_close(y[0], y[1], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "grouped", "embedding"])
@pytest.mark.parametrize("options", ["pi", "ekfac"])
def test_checkpoints_resume_bit_for_bit_and_refuse_other_forms(name: str, options: str) -> None:
    def resumed(limit: int, state: Any, weights: Any) -> tuple[nn.Module, KFAC]:
        model, _ = LAYERS[name]()
        model.load_state_dict(weights)
        optimizer = KFAC(
            model, likelihood="categorical", max_factor_size=limit, damping=0.05, fisher="type2",
            factor_interval=2, **OPTIONS[options],
        )  # fmt: skip
        optimizer.load_state_dict(state)
        return model, optimizer

    model, x = LAYERS[name]()
    _, optimizer = train(model, x, 5, max_factor_size=LEAST, **OPTIONS[options])
    saved = copy.deepcopy((optimizer.state_dict(), model.state_dict()))
    with pytest.raises(InvalidInputError, match="same options"):
        resumed(3, *saved)
    ends = []
    for _ in range(2):
        again, optimizer = resumed(LEAST, *copy.deepcopy(saved))
        for _ in range(3):
            optimizer.zero_grad()
            functional.cross_entropy(again(x), torch.arange(len(x)) % 3).backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in again.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))


@pytest.mark.parametrize(
    ("size", "other", "least", "unit", "limit", "block"),
    [
        (1024, 5, 256, 1, 1024, 1024),  # dense up to the limit
        (20_001, 10, 256, 1, 1024, 254),  # 79 blocks; more would take more memory than the weight
        (4000, 65, 128, 1, 1024, 125),
        (4097, 3000, 256, 1, 1024, 820),  # no larger than the limit
        (4608, 512, 256, 9, 1024, 468),  # 52 whole channels
        (4609, 512, 256, 9, 1024, 468),  # the bias fills the last block up
        (5000, 300, 256, 2500, 1024, 295),  # a kernel too large to be whole
        (7, 2, 256, 1, 1, 1),
    ],
)
def test_blocks_are_equal_and_no_larger_than_they_may_be(
    size: int, other: int, least: int, unit: int, limit: int, block: int
) -> None:
    form = form_of(size, other, least, unit, limit)
    assert form.block == block
    assert size <= form.padded < size + form.block + form.blocks


def test_a_diagonal_side_makes_no_dense_product() -> None:
    d = 200_000  # a dense factor would take 160 GB
    layer = Layer("", nn.Linear(d, 2), True, max_factor_size=1)
    total = torch.zeros(layer.input_form.shape())
    layer.input_form.add_second_moment(total, torch.ones(3, d))
    assert torch.equal(total, torch.full((d + 1,), 3.0))


def test_a_wide_layer_takes_little_memory_and_time() -> None:
    model = nn.Linear(20_000, 10)
    optimizer = KFAC(model, likelihood="categorical")
    start = time.process_time()
    functional.cross_entropy(model(torch.randn(64, 20_000)), torch.arange(64) % 10).backward()
    optimizer.step()
    assert time.process_time() - start < 10  # .2 s; a dense factor takes minutes
    scalars = sum(v.numel() for v in optimizer.state[model.weight].values() if torch.is_tensor(v))
    assert scalars < 60 * model.weight.numel()
    assert isinstance(Form(20_001, 254).matrix(torch.zeros(79, 254, 254)), BlockDiagonal)


def test_the_largest_factor_must_be_a_whole_number() -> None:
    with pytest.raises(InvalidInputError, match="max_factor_size must be a whole number >= 1"):
        KFAC(nn.Linear(3, 2), likelihood="normal", max_factor_size=0)
