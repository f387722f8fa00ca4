from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError
from fisherbo.training.coverage import examine


class Own(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class Named(nn.Linear):
    """A subclass that computes what a Linear computes."""


def tied() -> nn.Module:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4), "free": nn.Linear(3, 3)}
    )
    model["head"].weight = model["embed"].weight
    return model


def tied_to_excluded() -> nn.Module:
    model = nn.ModuleDict({"own": Own(3, 3), "tied": nn.Linear(3, 3)})
    model["tied"].weight = model["own"].weight
    return model


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(3, 3))


REASONS = {
    "transposed": (nn.ConvTranspose1d(3, 3, 1), "transposed", "ConvTranspose1d has no curvature"),
    "bilinear": (nn.Bilinear(3, 3, 3), "bilinear", "Bilinear has no curvature block"),
    "synced": (nn.SyncBatchNorm(3), "synced", "SyncBatchNorm has no curvature block"),
    "clipped": (nn.Embedding(4, 3, max_norm=1.0), "clipped", "max_norm and scale_grad_by_freq"),
    "scaled": (nn.Embedding(4, 3, scale_grad_by_freq=True), "scaled", "max_norm and scale_grad"),
    "new": (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "new", "computed from other"),
    "old": (old_weight_norm(), "old", "computed from other parameters"),
    "other": (nn.MultiheadAttention(4, 2, kdim=3), "other", "kdim, vdim"),
    "zeros": (nn.MultiheadAttention(4, 2, add_zero_attn=True), "zeros", "add_zero_attn"),
    "biases": (nn.MultiheadAttention(4, 2, add_bias_kv=True), "biases", "add_bias_kv"),
    "inner": (nn.MultiheadAttention(4, 2, kdim=3), "inner.out_proj", "around it is not covered"),
    "recurrent": (nn.LSTM(3, 3), "recurrent", "LSTM has no curvature block"),
    "own": (Own(3, 3), "own", "forward pass of its own"),
    "tied": (tied(), "tied.head", "shared with 'tied.embed' (Embedding)"),
    "tied input": (tied(), "tied input.embed", "shared with 'tied input.head' (Linear)"),
    "tied away": (tied_to_excluded(), "tied away.tied", "is not covered"),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_uncovered_modules_have_a_reason(name: str) -> None:
    module, full_name, reason = REASONS[name]
    model = nn.ModuleDict({"layer": nn.Linear(3, 3), name: module})
    layers, coverage = examine(model)
    assert "layer" in coverage.covered
    assert full_name not in coverage.covered
    assert reason in dict(coverage.uncovered)[full_name]
    assert f"{full_name}: " in str(coverage)
    assert coverage.parameters == sum(p.numel() for p in model.parameters())
    assert coverage.covered_parameters == sum(p.numel() for x in layers for p in x.parameters)


def test_everything_covered_is_said_in_one_line() -> None:
    _, coverage = examine(
        nn.Sequential(nn.Linear(3, 2), nn.Tanh(), Named(2, 1), nn.Conv2d(1, 1, 1))
    )
    assert coverage.share == 1
    assert coverage.uncovered == ()
    assert str(coverage) == "K-FAC trains 13 of 13 parameters (100.0%) in 3 modules: 0, 2, 3"


def test_a_module_under_two_names_is_one_layer() -> None:
    layer = nn.Linear(3, 3)
    layers, coverage = examine(nn.Sequential(layer, nn.Tanh(), layer))
    assert [x.module for x in layers] == [layer]
    assert coverage.covered == ("0",)


def test_a_frozen_bias_is_no_part_of_the_block() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    ((found,), _) = examine(layer)
    assert not found.has_bias
    assert found.shape == (2, 3)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(3, 2), (2, 4)),
        (nn.Linear(3, 2, bias=False), (2, 3)),
        (nn.Conv2d(2, 5, (3, 4)), (5, 2 * 3 * 4 + 1)),
        (nn.Conv1d(4, 6, 3, groups=2), (2, 3, 2 * 3 + 1)),
        (nn.Embedding(7, 3), (3, 7)),
        (nn.LayerNorm((2, 3)), (6, 2)),
        (nn.RMSNorm(3), (3, 1)),
        (nn.BatchNorm2d(3), (3, 2)),
        (nn.MultiheadAttention(4, 2).out_proj, (4, 5)),
    ],
)
def test_weights_and_bias_make_one_matrix(module: nn.Module, shape: tuple[int, ...]) -> None:
    ((layer,), coverage) = examine(module)
    assert layer.shape == shape
    assert coverage.share == 1
    values = [torch.randn(p.shape) for p in layer.parameters]
    matrix = layer.matrix(values)
    assert matrix.shape == shape
    for value, back in zip(values, layer.split(matrix), strict=True):
        assert torch.equal(value, back)


def test_an_attention_has_three_matrices_and_one_more() -> None:
    layers, coverage = examine(nn.MultiheadAttention(4, 2))
    assert [(layer.name, layer.shape) for layer in layers] == [
        ("", (3, 4, 5)),
        ("out_proj", (4, 5)),
    ]
    assert coverage.share == 1
    module = layers[0].module
    back = layers[0].split(layers[0].matrix([module.in_proj_weight, module.in_proj_bias]))
    assert torch.equal(back[0], module.in_proj_weight)
    assert torch.equal(back[1], module.in_proj_bias)


def test_the_report_names_the_form_of_wide_layers() -> None:
    model = nn.Sequential(nn.Embedding(3000, 8), nn.Linear(8, 3000))
    _, coverage = examine(model)
    assert coverage.wide == (("1", "output factor in 24 blocks of 125"),)
    assert "Wide layers:\n  1: output factor in 24 blocks of 125" in str(coverage)
    _, coverage = examine(nn.Conv2d(20, 9, 3), max_factor_size=80)
    assert coverage.wide == (("", "input factor in 3 blocks of 63"),)
    _, coverage = examine(nn.Linear(3, 2), max_factor_size=1)
    assert coverage.wide == (("", "output factor diagonal, input factor diagonal"),)


def test_modules_of_one_kind_with_one_weight_are_one_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    layers, coverage = examine(model)
    assert [(x.module, x.aliases, x.has_bias) for x in layers] == [(model[0], (model[2],), False)]
    assert coverage.covered == ("0", "2")
    assert dict(coverage.uncovered).keys() == {"0.bias", "2.bias"}
    model[2].bias = model[0].bias
    ((layer,), coverage) = examine(model)
    assert layer.has_bias
    assert coverage.uncovered == ()


def test_sparse_gradients_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'0' has sparse gradients.*sparse=False"):
        examine(nn.Sequential(nn.Embedding(4, 3, sparse=True), nn.Linear(3, 3)))


def test_excluded_modules_are_uncovered() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    _, coverage = examine(model, exclude=["1"])
    assert coverage.covered == ("0",)
    assert dict(coverage.uncovered) == {"1": "excluded by name"}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"exclude must name modules.*got \['head'\].*0, 1"):
        examine(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), exclude=["head"])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Bilinear(3, 3, 3)), "0: Bilinear has no"),
        (nn.Bilinear(3, 3, 3), "the model itself: Bilinear"),
        (nn.Tanh(), "no parameters"),
        (nn.LazyLinear(3), "run a forward pass"),
    ],
)
def test_a_model_without_a_covered_layer_is_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        examine(model)


def test_the_owner_of_a_parameter_outside_modules_is_named() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.layer = nn.Linear(3, 3)

    _, coverage = examine(Scaled())
    assert "(the model itself): Scaled has no" in str(coverage)
