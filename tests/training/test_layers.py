"""Every kind of layer against brute force, another library or an equal layer of another kind."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC
from fisherbo.training.blocks import Scheme, average, corrected_sum, empty_state, factorise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from curvlinops import EKFACLinearOperator, FisherType, KFACLinearOperator, KFACType

TIGHT = {"atol": 1e-12, "rtol": 1e-10}
EKFAC = Scheme(exact_damping=True, eigen_correction=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    model.double()
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(seed + index))
    return model


class Pooled(nn.Module):
    """A layer, an activation, a mean over positions, and a head: weight sharing, 2-d outputs."""

    def __init__(self, first: nn.Module, width: int, channels_last: bool) -> None:
        super().__init__()
        self.first, self.head = first, nn.Linear(width, 3)
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = h if self.channels_last else h.movedim(1, -1)
        return self.head(h.flatten(1, -2).mean(1) if h.ndim > 2 else h)


class Net(nn.Sequential):
    """Named parts."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def tokens(*shape: int, size: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


SHARING = {
    "linear": lambda: (Pooled(nn.Linear(4, 5), 5, True), normal(5, 6, 4)),
    "linear, no bias": lambda: (Pooled(nn.Linear(4, 5, bias=False), 5, True), normal(5, 6, 4)),
    "conv1d": lambda: (
        Pooled(nn.Conv1d(2, 4, 3, padding=2, dilation=2, padding_mode="circular"), 4, False),
        normal(4, 2, 6),
    ),
    "conv2d": lambda: (
        Pooled(nn.Conv2d(2, 4, 3, stride=2, padding=1), 4, False),
        normal(4, 2, 5, 5),
    ),
    "conv3d": lambda: (Pooled(nn.Conv3d(1, 3, 2), 3, False), normal(3, 1, 3, 3, 3)),
    "grouped": lambda: (Pooled(nn.Conv2d(4, 6, 2, groups=2), 6, False), normal(3, 4, 3, 3)),
    "depthwise": lambda: (Pooled(nn.Conv1d(3, 3, 2, groups=3), 3, False), normal(4, 3, 5)),
    "embedding": lambda: (Pooled(nn.Embedding(7, 4), 4, True), tokens(6, 5)),
    "padded": lambda: (Pooled(nn.Embedding(7, 4, padding_idx=2), 4, True), tokens(6, 5)),
    "embedding, one token": lambda: (Net(a=nn.Embedding(7, 4), b=nn.Linear(4, 3)), tokens(9)),
    "called twice": lambda: (Recurrent(), normal(6, 4)),
    "tied": lambda: (Recurrent(tied=True), normal(6, 4)),
}  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.again = nn.Linear(4, 4) if tied else self.cell
        self.again.weight, self.again.bias = self.cell.weight, self.cell.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.again(torch.tanh(self.cell(x)))))


def built(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    model, x = SHARING[name]()
    seeded(model, seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    return model, x


def dense(state: dict[str, Any]) -> Tensor:
    """``Q diag(s) Qᵀ``, over the flattened weight matrix, of one group after the other."""
    s, q_g = state["spectrum"], state["output_basis"]
    q_a = state.get("input_basis")
    q_a = torch.eye(s.shape[-1]).to(s).repeat(*s.shape[:-2], 1, 1) if q_a is None else q_a
    blocks = [
        torch.kron(g, a) @ torch.diag(d.flatten()) @ torch.kron(g, a).T
        for g, a, d in zip(
            *(m.reshape(-1, *m.shape[-2:]).contiguous() for m in (q_g, q_a, s)), strict=True
        )
    ]
    return torch.block_diag(*blocks)


def kronecker(found: dict[str, Tensor]) -> Tensor:
    """``A ⊗ G`` likewise."""
    g, a = found["output_factor"], found["input_factor"]
    a = torch.diag(a) if a.ndim == 1 else a
    pairs = zip(*(m.reshape(-1, *m.shape[-2:]) for m in (g, a)), strict=True)
    return torch.block_diag(*(torch.kron(x, y) for x, y in pairs))


def corrected(layer: Any, moments: Any, scheme: Scheme = EKFAC) -> dict[str, Any]:
    """State of a layer after one EKFAC update."""
    state = empty_state(layer, scheme)
    average(state, moments, 0.95)
    factorise(layer, scheme, state, 0.1)
    state["spectrum"] = corrected_sum(layer, state, moments.kept) / moments.output_rows
    return state


def group_blocks(matrix: Tensor, groups: int) -> Tensor:
    """The diagonal blocks of each group, zeros elsewhere."""
    size = len(matrix) // groups
    blocks = [matrix[i * size : (i + 1) * size, i * size : (i + 1) * size] for i in range(groups)]
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
def test_the_corrected_spectrum_is_the_diagonal_of_the_ggn_in_the_basis(
    name: str, likelihood: str, moments_of: Any, dense_ggn: Any
) -> None:
    model, x = built(name)
    exact = dense_ggn(model, x, likelihood)
    for layer, moments in moments_of(model, x, likelihood=likelihood, keep=True).items():
        state = corrected(layer, moments)
        basis = dense({**state, "spectrum": torch.ones_like(state["spectrum"])})
        assert_close(basis, torch.eye(len(basis)).double(), atol=1e-10, rtol=0)
        ours, theirs = dense(state), group_blocks(exact[layer.name], layer.groups)
        assert_close(ours.trace(), theirs.trace(), atol=1e-12, rtol=1e-10)
        # the nearest matrix that is diagonal in the basis: the rest is orthogonal to it
        assert_close((ours * (theirs - ours)).sum(), torch.zeros(()).double(), atol=1e-10, rtol=0)
        error = (theirs - ours).norm()
        assert error <= (theirs - kronecker(moments.factors())).norm() + 1e-12


@pytest.mark.parametrize("name", ["linear", "conv2d", "called twice", "embedding", "grouped"])
def test_some_layer_is_nearer_to_the_ggn_by_the_correction(
    name: str, moments_of: Any, dense_ggn: Any
) -> None:
    model, x = built(name)
    exact = dense_ggn(model, x, "categorical")
    gains = []
    for layer, moments in moments_of(model, x, likelihood="categorical", keep=True).items():
        theirs = group_blocks(exact[layer.name], layer.groups)
        plain = (theirs - kronecker(moments.factors())).norm()
        gains.append(((theirs - dense(corrected(layer, moments))).norm() / plain).item())
    assert min(gains) < 0.95


@pytest.mark.parametrize("build", ["linear", "conv2d"])
@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
@pytest.mark.parametrize("reduce", [False, True])
def test_ekfac_and_sharing_equal_those_of_curvlinops(
    build: str, likelihood: str, reduce: bool, moments_of: Any
) -> None:
    model, x = built(build)
    if build == "conv2d":  # where A has a null space its basis is arbitrary: no padding, more rows
        model, x = seeded(Pooled(nn.Conv2d(2, 4, 3), 4, False)), normal(24, 2, 5, 5)
    sharing = "reduce" if reduce else "expand"
    loss = nn.CrossEntropyLoss() if likelihood == "categorical" else nn.MSELoss()
    y = torch.arange(len(x)) % 3 if likelihood == "categorical" else normal(len(x), 3, seed=8)
    theirs = EKFACLinearOperator(
        model, loss, list(model.parameters()), [(x, y)], fisher_type=FisherType.TYPE2,
        kfac_approx=KFACType.REDUCE if reduce else KFACType.EXPAND,
        separate_weight_and_bias=False, check_deterministic=False,
    )  # fmt: skip
    factors = KFACLinearOperator(
        model, loss, list(model.parameters()), [(x, y)], fisher_type=FisherType.TYPE2,
        kfac_approx=KFACType.REDUCE if reduce else KFACType.EXPAND,
        separate_weight_and_bias=False, check_deterministic=False,
    )  # fmt: skip
    factors.compute_kronecker_factors()
    theirs.compute_kronecker_factors()
    theirs.compute_eigenvalue_correction()
    scale = 1.0 if likelihood == "categorical" else 2 / 3  # MSELoss is 2/C of -log p
    found = moments_of(model, x, likelihood=likelihood, sharing=sharing, keep=True)
    assert {x.name for x in found} == factors._input_covariances.keys()
    for layer, moments in found.items():
        ours = moments.factors()
        assert_close(ours["input_factor"], factors._input_covariances[layer.name], **TIGHT)
        expected = factors._gradient_covariances[layer.name]
        assert_close(scale * ours["output_factor"], expected, **TIGHT)
        other = {
            "spectrum": theirs._corrected_eigenvalues[layer.name],
            "input_basis": theirs._input_covariances_eigenvectors[layer.name],
            "output_basis": theirs._gradient_covariances_eigenvectors[layer.name],
        }
        # where eigenvalues are distinct the two bases are equal up to signs
        assert_close(scale * dense(corrected(layer, moments)), dense(other), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("build", ["linear", "conv2d"])
def test_empirical_factors_equal_those_of_curvlinops(
    build: str, reduction: str, moments_of: Any
) -> None:
    model, x = built(build)
    y = torch.arange(len(x)) % 3
    theirs = KFACLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)],
        fisher_type=FisherType.EMPIRICAL, separate_weight_and_bias=False, check_deterministic=False,
    )  # fmt: skip
    theirs.compute_kronecker_factors()
    found = moments_of(
        model, x, likelihood="categorical", fisher="empirical",
        loss=lambda z: functional.cross_entropy(z, y),
    )  # fmt: skip
    for layer, moments in found.items():
        ours = moments.factors()
        assert_close(ours["input_factor"], theirs._input_covariances[layer.name], **TIGHT)
        assert_close(ours["output_factor"], theirs._gradient_covariances[layer.name], **TIGHT)


ONE_POSITION = {
    "conv1d": lambda: (nn.Conv1d(2, 3, 2, dilation=3), (2, 4)),
    "conv2d": lambda: (nn.Conv2d(2, 3, (3, 4)), (2, 3, 4)),
    "conv2d, padded": lambda: (
        nn.Conv2d(2, 3, (3, 4), stride=9, padding=1, padding_mode="circular"),
        (2, 3, 3),
    ),
    "conv3d": lambda: (nn.Conv3d(1, 4, (2, 1, 3), groups=1), (1, 2, 1, 3)),
    "grouped": lambda: (nn.Conv3d(4, 6, 2, groups=2), (4, 2, 2, 2)),
    "depthwise": lambda: (nn.Conv1d(4, 4, 3, groups=4, bias=False), (4, 3)),
}


@pytest.mark.parametrize("name", ONE_POSITION)
@pytest.mark.parametrize(("rows", "likelihood"), [(7, "normal"), (1, "categorical")])
def test_blocks_of_convolutions_at_one_position_are_the_ggn(
    name: str, rows: int, likelihood: str, moments_of: Any, dense_ggn: Any
) -> None:
    module, shape = ONE_POSITION[name]()
    model = seeded(Net(conv=module, flat=nn.Flatten()))
    x = normal(rows, *shape, seed=3)
    ((layer, moments),) = moments_of(model, x, likelihood=likelihood).items()
    exact = group_blocks(dense_ggn(model, x, likelihood)["conv"], layer.groups)
    assert_close(kronecker(moments.factors()), exact, **TIGHT)


class Split(nn.Module):
    """A grouped convolution as one convolution a group."""

    def __init__(self, grouped: nn.Conv2d) -> None:
        super().__init__()
        width = grouped.in_channels // grouped.groups
        outputs = grouped.out_channels // grouped.groups
        self.parts = nn.ModuleList(
            nn.Conv2d(width, outputs, grouped.kernel_size, padding=1) for _ in range(grouped.groups)
        )
        with torch.no_grad():
            for part, weight, bias in zip(
                self.parts, grouped.weight.chunk(grouped.groups),
                grouped.bias.chunk(grouped.groups), strict=True,
            ):  # fmt: skip
                part.double()
                part.weight.copy_(weight)
                part.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        chunks = x.chunk(len(self.parts), 1)
        return torch.cat([part(c) for part, c in zip(self.parts, chunks, strict=True)], 1)


def test_a_grouped_convolution_is_one_convolution_a_group(factors_of: Any) -> None:
    grouped = seeded(nn.Conv2d(6, 9, 3, padding=1, groups=3))
    x = normal(2, 6, 4, 4)
    (a, g) = factors_of(Net(conv=grouped, flat=nn.Flatten()), x)["conv"]
    parts = factors_of(Net(conv=Split(grouped), flat=nn.Flatten()), x)
    for group in range(3):
        a_part, g_part = parts[f"conv.parts.{group}"]
        assert_close(a[group], a_part, **TIGHT)
        assert_close(g[group], g_part, **TIGHT)


class AsPixels(nn.Module):
    """A 1-d or 3-d convolution, with kernel 1 along the first axis, as a 2-d one."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        flat = isinstance(conv, nn.Conv1d)
        kernel = (1, *conv.kernel_size) if flat else conv.kernel_size[1:]
        self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, kernel).double()
        with torch.no_grad():
            self.conv.weight.copy_(conv.weight.reshape(self.conv.weight.shape))
            self.conv.bias.copy_(conv.bias)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        if self.flat:
            return self.conv(x[:, :, None])[:, :, 0]
        n, c, d = x.shape[:3]
        images = self.conv(x.movedim(2, 1).reshape(n * d, c, *x.shape[3:]))
        return images.reshape(n, d, *images.shape[1:]).movedim(1, 2)


@pytest.mark.parametrize(
    ("conv", "shape"),
    [(nn.Conv1d(2, 3, 3), (4, 2, 6)), (nn.Conv3d(2, 3, (1, 2, 3)), (2, 2, 3, 4, 5))],
)
def test_convolutions_of_other_dimensions_equal_two_dimensional_ones(
    conv: nn.Module, shape: tuple[int, ...], factors_of: Any
) -> None:
    x = normal(*shape)
    ours = factors_of(Net(conv=seeded(conv), flat=nn.Flatten()), x)["conv"]
    theirs = factors_of(Net(conv=AsPixels(conv), flat=nn.Flatten()), x)["conv.conv"]
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other, **TIGHT)


NORMS = {
    "layer": lambda: (Net(norm=nn.LayerNorm(4), head=nn.Linear(4, 3)), (5, 4)),
    "layer, shared": lambda: (Pooled(nn.LayerNorm(4), 4, True), (5, 3, 4)),
    "layer, no bias": lambda: (Pooled(nn.LayerNorm(4, bias=False), 4, True), (5, 3, 4)),
    "rms": lambda: (Pooled(nn.RMSNorm(4), 4, True), (5, 3, 4)),
    "group": lambda: (Pooled(nn.GroupNorm(2, 4), 4, False), (5, 4, 3)),
    "batch": lambda: (Pooled(nn.BatchNorm2d(4), 4, False), (5, 4, 2, 2)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
def test_blocks_of_normalisations_are_those_of_the_ggn(
    name: str, likelihood: str, moments_of: Any, dense_ggn: Any
) -> None:
    model, shape = NORMS[name]()
    seeded(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    x = normal(*shape, seed=4)
    exact = dense_ggn(model, x, likelihood)
    found = {
        layer.name: (layer, m) for layer, m in moments_of(model, x, likelihood=likelihood).items()
    }
    name = "norm" if "norm" in found else "first"
    layer, moments = found[name]
    units, k = layer.shape
    blocks = exact[name].reshape(units, k, units, k)
    expected = torch.stack([blocks[i, :, i] for i in range(units)])
    assert_close(moments.factors()["output_factor"], expected, **TIGHT)


def test_batch_statistics_refuse_the_exact_fisher_and_not_the_sampled_one() -> None:
    parts = {"first": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4), "tanh": nn.Tanh()}
    model = seeded(Net(**parts, head=nn.Linear(4, 2)))
    optimizer = KFAC(model, likelihood="categorical", fisher="type2")
    x, y = normal(6, 3), torch.arange(6) % 2
    with pytest.raises(InvalidInputError, match=r"BatchNorm in training mode; use fisher='mc'"):
        model(x)
    optimizer.remove_hooks()
    optimizer = KFAC(model, likelihood="categorical", fisher="mc", lr=0.3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert optimizer.coverage().share == 1
    assert losses[-1] < 0.5 * losses[0]


SCHEMES = {
    "pi": {},
    "exact": {"exact_damping": True},
    "ekfac": {"eigen_correction": True},
    "empirical": {"fisher": "empirical", "eigen_correction": True},
}


def train(model: nn.Module, x: Tensor, steps: int = 6, **options: Any) -> list[Tensor]:
    optimizer = KFAC(
        model, likelihood="categorical", **({"fisher": "type2", "factor_interval": 2} | options)
    )
    outputs = []
    for _ in range(steps):
        optimizer.zero_grad()
        z = model(x)
        outputs.append(z.detach())
        functional.cross_entropy(z, torch.arange(len(x)) % 3).backward()
        optimizer.step()
    optimizer.remove_hooks()
    return outputs


class OneHot(nn.Module):
    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.table = nn.Linear(*embedding.weight.shape, bias=False).double()
        with torch.no_grad():
            self.table.weight.copy_(embedding.weight.mT)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(functional.one_hot(tokens, self.table.in_features).double())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["embedding", "embedding, one token"])
def test_an_embedding_is_a_linear_layer_of_one_hot_inputs(name: str, scheme: str) -> None:
    model, x = built(name)
    other = copy.deepcopy(model)
    first = "first" if hasattr(model, "first") else "a"
    setattr(other, first, OneHot(getattr(model, first)))
    for mine, theirs in zip(
        train(model, x, **SCHEMES[scheme]), train(other, x, **SCHEMES[scheme]), strict=True
    ):
        assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tied_modules_train_as_one_module_called_twice(scheme: str) -> None:
    model, x = built("tied")
    other, _ = built("called twice")
    other.load_state_dict(model.state_dict())
    mine, theirs = train(model, x, **SCHEMES[scheme]), train(other, x, **SCHEMES[scheme])
    for first, second in zip(mine, theirs, strict=True):
        assert torch.equal(first, second)
    assert torch.equal(model.cell.weight, model.again.weight)


def test_the_padding_embedding_is_never_moved() -> None:
    model, x = built("padded")
    train(model, x, weight_decay=0.1)
    assert torch.equal(model.first.weight[2], torch.zeros(4).double())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", SHARING)
def test_every_kind_of_layer_makes_progress(name: str, scheme: str) -> None:
    model, x = built(name)
    y = torch.arange(len(x)) % 3
    options = {"lr": 0.1, "momentum": 0.5, "damping": 0.05}
    outputs = train(model, x, 12, **SCHEMES[scheme], **options)
    losses = [functional.cross_entropy(z, y).item() for z in outputs]
    assert losses[-1] < 0.9 * losses[0]
