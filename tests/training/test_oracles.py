"""Kronecker factors and steps against another library, brute force and an invariance."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.training import KFAC

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from curvlinops import FisherType, KFACLinearOperator

FactorsOf = Callable[..., dict[str, tuple[Tensor, Tensor]]]
LOSSES = {"categorical": nn.CrossEntropyLoss(), "normal": nn.MSELoss()}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    model.double()
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(seed + index))
    return model


def linear_network() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 6, bias=False), nn.ReLU())
    return seeded(nn.Sequential(*model, nn.Linear(6, 3))), normal(11, 5, seed=7)


def convolutional_network() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
        nn.Tanh(),
        nn.Conv2d(3, 2, 3, padding=1, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    images = normal(6, 2, 6, 7, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.double()(images)
    return seeded(model), images


@pytest.mark.parametrize("build", [linear_network, convolutional_network])
@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
def test_factors_equal_those_of_curvlinops(
    build: Callable[[], tuple[nn.Module, Tensor]], likelihood: str, factors_of: FactorsOf
) -> None:
    model, x = build()
    y = torch.arange(len(x)) % 3 if likelihood == "categorical" else normal(len(x), 3, seed=8)
    theirs = KFACLinearOperator(
        model,
        LOSSES[likelihood],
        list(model.parameters()),
        [(x, y)],
        fisher_type=FisherType.TYPE2,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    theirs.compute_kronecker_factors()  # once: a second call doubles both factors
    scale = 1.0 if likelihood == "categorical" else 2 / 3  # MSELoss is 2/C of -log p
    ours = factors_of(model, x, likelihood=likelihood)
    assert ours.keys() == theirs._input_covariances.keys()
    for name, (a, g) in ours.items():
        assert_close(a, theirs._input_covariances[name], atol=1e-12, rtol=1e-12)
        assert_close(scale * g, theirs._gradient_covariances[name], atol=1e-12, rtol=1e-12)


def output_hessian(z: Tensor, likelihood: str) -> Tensor:
    if likelihood == "normal":
        return torch.eye(len(z), dtype=z.dtype)
    p = z.softmax(0)
    return torch.diag(p) - torch.outer(p, p)


def dense_blocks(model: nn.Module, x: Tensor, likelihood: str) -> dict[str, Tensor]:
    """Diagonal blocks of the GGN, each over row-major ``[weight | bias]`` of one layer."""
    blocks = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        total = 0.0
        for row in x:
            z = model(row[None])[0]
            jacobian = []
            for output in z:
                w, b = torch.autograd.grad(output, [layer.weight, layer.bias], retain_graph=True)
                jacobian.append(torch.cat([w, b[:, None]], 1).flatten())
            rows = torch.stack(jacobian)
            total = total + rows.T @ output_hessian(z.detach(), likelihood) @ rows
        blocks[name] = total / len(x)
    return blocks


def tanh_network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))


EXACT = {
    "one layer, squared error": (lambda: nn.Sequential(nn.Linear(4, 3)), 9, "normal"),
    "deep linear, squared error": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2), nn.Linear(2, 3)),
        9,
        "normal",
    ),
    "one row, cross-entropy": (tanh_network, 1, "categorical"),
    "one row, squared error": (tanh_network, 1, "normal"),
}


@pytest.mark.parametrize("case", EXACT)
def test_kronecker_blocks_equal_the_dense_ggn(case: str, factors_of: FactorsOf) -> None:
    build, rows, likelihood = EXACT[case]
    model, x = seeded(build()), normal(rows, 4, seed=3)
    dense = dense_blocks(model, x, likelihood)
    for name, (a, g) in factors_of(model, x, likelihood=likelihood).items():
        assert_close(torch.kron(g, a), dense[name], atol=1e-12, rtol=1e-10)


def test_kronecker_block_of_one_layer_with_cross_entropy_is_not_exact(
    factors_of: FactorsOf,
) -> None:
    model, x = seeded(nn.Sequential(nn.Linear(4, 3))), normal(9, 4, seed=3)
    dense = dense_blocks(model, x, "categorical")["0"]
    a, g = factors_of(model, x, likelihood="categorical")["0"]
    assert (torch.kron(g, a) - dense).norm() > 0.05 * dense.norm()


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
def test_sampled_factors_approach_the_exact_ones(likelihood: str, factors_of: FactorsOf) -> None:
    model, x = seeded(tanh_network()), normal(5, 4, seed=3)
    exact = factors_of(model, x, likelihood=likelihood)
    sampled = factors_of(model, x, likelihood=likelihood, fisher="mc", mc_samples=3000)
    for name, (a, g) in sampled.items():
        assert_close(a, exact[name][0])
        assert (g - exact[name][1]).norm() < 0.1 * exact[name][1].norm()


class Reparametrised(nn.Module):
    """``z = V₂ ℓ₂(T₁ tanh(V₁ ℓ₁(T₀ x)))`` with fixed affine maps T and V around the layers ℓ."""

    def __init__(self, maps: list[tuple[Tensor, Tensor]], layers: list[nn.Linear]) -> None:
        super().__init__()
        self.maps = maps
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        t0, v1, t1, v2 = [lambda u, m=m, c=c: u @ m.T + c for m, c in self.maps]
        return v2(self.layers[1](t1(torch.tanh(v1(self.layers[0](t0(x)))))))


def absorbed(
    layer: nn.Linear, inner: tuple[Tensor, Tensor], outer: tuple[Tensor, Tensor]
) -> nn.Linear:
    """The layer ``outer⁻¹ ∘ layer ∘ inner⁻¹``."""
    (m, c), (v, e) = inner, outer
    result = copy.deepcopy(layer)
    with torch.no_grad():
        weight = torch.linalg.solve(v, torch.linalg.solve(m, layer.weight, left=False))
        result.weight.copy_(weight)
        result.bias.copy_(torch.linalg.solve(v, layer.bias - e) - weight @ c)
    return result


def random_map(d: int, seed: int) -> tuple[Tensor, Tensor]:
    return torch.eye(d).double() + 0.4 * normal(d, d, seed=seed), normal(d, seed=seed + 1)


def trajectory(
    model: nn.Module, x: Tensor, y: Tensor, damping: float, exact: bool = False
) -> list[Tensor]:
    optimizer = KFAC(
        model,
        likelihood="bernoulli",
        fisher="type2",
        lr=0.3,
        damping=damping,
        momentum=0.5,
        factor_interval=2,
        kl_clip=0.5,
        exact_damping=exact,
    )
    outputs = []
    for _ in range(6):
        optimizer.zero_grad()
        z = model(x)
        outputs.append(z.detach())
        functional.binary_cross_entropy_with_logits(z, y, reduction="sum").div(len(x)).backward()
        optimizer.step()
    return outputs


@pytest.mark.parametrize(
    ("damping", "exact", "invariant"),
    [(1e-24, False, True), (1e-2, False, False), (1e-12, True, True), (1e-2, True, False)],
)
def test_affine_maps_of_inputs_and_units_change_no_trajectory(
    damping: float, exact: bool, invariant: bool
) -> None:
    layers = [seeded(nn.Linear(3, 4)), seeded(nn.Linear(4, 2), 5)]
    x = normal(30, 3, seed=1)
    y = (normal(30, 2, seed=2) > 0).double()
    identity = [(torch.eye(d).double(), torch.zeros(d).double()) for d in (3, 4, 4, 2)]
    maps = [random_map(d, seed) for d, seed in ((3, 10), (4, 20), (4, 30), (2, 40))]
    moved = [absorbed(layers[0], maps[0], maps[1]), absorbed(layers[1], maps[2], maps[3])]
    plain = trajectory(Reparametrised(identity, layers), x, y, damping, exact)
    mapped = trajectory(Reparametrised(maps, moved), x, y, damping, exact)
    distances = [(p - m).abs().max().item() for p, m in zip(plain, mapped, strict=True)]
    assert distances[0] < 1e-12  # the same function, in other coordinates
    assert (plain[-1] - plain[0]).abs().max() > 1
    assert (max(distances) < 1e-4) == invariant
