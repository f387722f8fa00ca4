"""What a weight multiplies, against the modules themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from fisherbo.training.coverage import examine
from fisherbo.training.rows import gradient_rows, input_rows, joined, thinned

MODES = ["zeros", "reflect", "replicate", "circular"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    module.double()
    for index, parameter in enumerate(module.parameters()):
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed + index))
    return module


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel:UserWarning")
@given(
    seed=st.integers(0, 2**20),
    dims=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    stride=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    padding=st.one_of(
        st.lists(st.integers(0, 2), min_size=3, max_size=3), st.sampled_from(["same", "valid"])
    ),
    dilation=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    mode=st.sampled_from(MODES),
    groups=st.sampled_from([1, 2]),
    batched=st.booleans(),
)
def test_patches_times_weight_is_the_convolution(
    seed: int,
    dims: int,
    kernel: list[int],
    stride: list[int],
    padding: list[int] | str,
    dilation: list[int],
    mode: str,
    groups: int,
    batched: bool,
) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    stride = [1, 1, 1] if padding == "same" else stride
    module = nn.utils.skip_init(
        kind,
        4,
        6,
        tuple(kernel[:dims]),
        stride=tuple(stride[:dims]),
        padding=padding if isinstance(padding, str) else tuple(padding[:dims]),
        dilation=tuple(dilation[:dims]),
        padding_mode=mode,
        groups=groups,
    )
    seeded(module, seed)
    shape = (2, 4, 6, 7, 5)[: dims + 2] if batched else (4, 6, 7, 5)[: dims + 1]
    images = normal(*shape, seed=seed)
    ((layer,), _) = examine(module)
    matrix = layer.matrix([p.detach() for p in layer.parameters])
    rows = input_rows(module, images) @ matrix[..., None, :, :-1].mT
    rows = rows + matrix[..., None, None, :, -1]
    assert_close(rows, gradient_rows(module, module(images)))


NORMS = {
    "layer": (nn.LayerNorm(5), (4, 3, 5)),
    "layer, two axes": (nn.LayerNorm((3, 5)), (4, 3, 5)),
    "layer, one row": (nn.LayerNorm(5), (5,)),
    "rms": (nn.RMSNorm(5), (4, 3, 5)),
    "group": (nn.GroupNorm(2, 4), (3, 4, 2, 5)),
    "batch": (nn.BatchNorm1d(4), (6, 4)),
    "batch, sequence": (nn.BatchNorm1d(4), (6, 4, 3)),
    "batch, images": (nn.BatchNorm2d(4), (6, 4, 3, 2)),
    "batch, volumes": (nn.BatchNorm3d(4), (6, 4, 3, 2, 2)),
    "batch, not tracked": (nn.BatchNorm1d(4, track_running_stats=False), (6, 4)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_normalised_inputs_times_weight_are_the_normalisation(name: str, training: bool) -> None:
    module, shape = NORMS[name]
    seeded(module).train(training)
    x = normal(*shape, seed=3)
    before = [b.clone() for b in module.buffers()]
    rows = input_rows(module, x)
    for buffer, old in zip(module.buffers(), before, strict=True):
        assert torch.equal(buffer, old)
    rows = rows * module.weight.detach().flatten()
    bias = getattr(module, "bias", None)
    rows = rows if bias is None else rows + bias.detach().flatten()
    assert_close(rows, gradient_rows(module, module(x).detach()))


def test_calls_with_equally_many_rows_are_positions_of_them() -> None:
    a, b = normal(4, 2, 3), normal(4, 1, 3, seed=1)
    assert torch.equal(joined([a, b], -2), torch.cat([a, b], 1))
    other = joined([a, normal(6, 1, 3)], -2)
    assert other.shape == (14, 1, 3)
    assert torch.equal(other[:8, 0], a.flatten(0, 1))


def test_a_batch_of_many_positions_is_thinned_evenly() -> None:
    images = torch.arange(100.0)[:, None, None, None].expand(100, 2, 8, 8)
    kept = thinned(images, torch.zeros(100, 6400 // 100, 3))
    assert torch.equal(kept, images)  # fewer than twice the positions that are left
    kept = thinned(images, torch.zeros(3, 100, 200, 3))  # a convolution of three groups
    assert torch.equal(kept[:, 0, 0, 0], torch.arange(0, 100, 4.0))
    alone = torch.zeros(2, 300, 300)
    assert thinned(alone, torch.zeros(1, 90_000, 3)) is alone  # an image without a batch
