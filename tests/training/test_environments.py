"""Mixed precision, compiled and wrapped models, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC, NaturalGradient, mlp

X, LABELS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def scaled(scaler: torch.amp.GradScaler | None, fisher: str) -> tuple[list[Tensor], KFAC]:
    model = mlp(4, (6, 5), 3)
    optimizer = KFAC(model, likelihood="categorical", fisher=fisher)
    for _ in range(6):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(X), LABELS)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    return weights(model), optimizer


@pytest.mark.parametrize("fisher", ["mc", "type2", "empirical"])
def test_a_gradient_scaler_changes_no_bit(fisher: str) -> None:
    plain, optimizer = scaled(None, fisher)
    with_scaler, other = scaled(torch.amp.GradScaler("cpu", init_scale=2.0**20), fisher)
    for p, q in zip(plain, with_scaler, strict=True):
        assert torch.equal(p, q)
    for one, two in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() & {"output_factor"}:
            assert torch.equal(one[name], two[name])


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
@pytest.mark.parametrize("eigen_correction", [False, True])
def test_an_overflow_skips_the_step_and_forgets_its_factors(
    fisher: str, eigen_correction: bool
) -> None:
    model = mlp(4, (6, 5), 3)
    optimizer = KFAC(
        model, likelihood="categorical", fisher=fisher, eigen_correction=eigen_correction,
        lr=0.03,
    )  # fmt: skip
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before, losses, scales = weights(model), [], []
    for _ in range(40):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = functional.cross_entropy(model(X), LABELS)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        if not scales:
            assert all(map(torch.equal, before, weights(model)))
            state = optimizer.state[model[0].weight]
            assert (state["steps"], state["factor_updates"]) == (0, 0)
        scaler.update()
        losses.append(loss.item())
        scales.append(scaler.get_scale())
    assert scales[0] == 2.0**39
    assert optimizer.state[model[0].weight]["steps"] > 5
    assert losses[-1] < 0.5 * losses[0]
    assert optimizer.state[model[0].weight]["output_factor"].dtype == torch.float32
    assert optimizer.state[model[0].weight]["output_factor"].norm() < 10  # not times the scale


def test_gradients_may_be_clipped_between_unscaling_and_the_step() -> None:
    results = []
    for use in (False, True):
        model = mlp(4, (6, 5), 3)
        optimizer = KFAC(model, likelihood="categorical")
        scaler = torch.amp.GradScaler("cpu", enabled=use)
        scaler.scale(functional.cross_entropy(model(X), LABELS)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        results.append(weights(model))
    for p, q in zip(*results, strict=True):
        assert torch.equal(p, q)


def test_the_empirical_fisher_needs_the_scale_of_the_gradients() -> None:
    model = mlp(4, (6, 5), 3)
    optimizer = KFAC(model, likelihood="categorical", fisher="empirical")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(functional.cross_entropy(model(X), LABELS)).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(InvalidInputError, match=r"unscale_ was called for; leave the call out"):
        scaler.step(optimizer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "options",
    [{}, {"exact_damping": True}, {"eigen_correction": True}, {"quadratic_model": True}],
)
def test_a_cuda_device_gives_the_same_trajectory(options: dict[str, Any]) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        model = mlp(4, (6, 5), 3).double().to(device)
        optimizer = KFAC(model, likelihood="categorical", fisher="type2", damping=0.1, **options)
        x, y = X.double().to(device), LABELS.to(device)
        losses.append([])
        for _ in range(8):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            losses[-1].append(loss.item())
            loss.backward()
            optimizer.step()
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)


ORDERS = ["hooks first", "compiled first", "given compiled"]


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # by dynamo
@pytest.mark.parametrize("order", ORDERS)
def test_a_compiled_model_trains_as_a_plain_one(order: str) -> None:
    """torch.compile does not see hooks of inner modules that come after its first call."""
    results = []
    for compiled in (True, False):
        torch._dynamo.reset()
        model = mlp(4, (6, 5), 3)
        called = torch.compile(model, backend="eager") if compiled else model
        if order == "compiled first":
            called(X)
        given = called if order == "given compiled" else model
        optimizer = KFAC(given, likelihood="categorical", fisher="type2")
        if compiled and order == "compiled first":
            functional.cross_entropy(called(X), LABELS).backward()
            with pytest.raises(InvalidInputError, match=r"torch.compiler.reset\(\) after building"):
                optimizer.step()
            torch.compiler.reset()
        for _ in range(3):
            optimizer.zero_grad()
            functional.cross_entropy(called(X), LABELS).backward()
            optimizer.step()
        results.append(weights(model))
    for p, q in zip(*results, strict=True):
        assert_close(p, q)


def test_a_model_that_calls_only_parts_of_itself_is_refused_at_the_step() -> None:
    """As a wrapper does that takes the hooked model apart: no pass leads through its hooks."""
    model = mlp(4, (6, 5), 3)
    optimizer = KFAC(model, likelihood="categorical")
    apart = nn.Sequential(*model)
    functional.cross_entropy(apart(X), LABELS).backward()
    before = weights(model)
    with pytest.raises(InvalidInputError, match="module '0' has a gradient but no Kronecker"):
        optimizer.step()
    assert all(map(torch.equal, before, weights(model)))


def test_replicas_are_refused() -> None:
    """As torch.nn.DataParallel makes them: copies of modules that keep the hooks."""
    model = mlp(4, (6,), 3)
    _optimizer = KFAC(model, likelihood="categorical")
    replica = model._replicate_for_data_parallel()
    replica._modules = dict(model._modules)
    for name, part in model._modules.items():
        copied = replica._modules[name] = part._replicate_for_data_parallel()
        for key, parameter in part._parameters.items():
            setattr(copied, key, parameter.clone())
    with pytest.raises(InvalidInputError, match=r"replica.*use DistributedDataParallel"):
        functional.cross_entropy(replica(X), LABELS)


def test_an_encoder_layer_is_covered_and_trains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    optimizer = KFAC(model, likelihood="categorical", lr=0.05, kl_clip=0.01)
    coverage = optimizer.coverage()
    assert {"0.self_attn", "0.self_attn.out_proj", "0.linear1"} <= set(coverage.covered)
    assert coverage.uncovered == ()
    x, losses = torch.randn(12, 3, 4), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), LABELS)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


class Attention(nn.Module):
    """Built from Linear modules: all covered."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        z = functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return self.out(z).mean(1)


def test_the_quadratic_model_says_what_to_do_about_fused_attention() -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 3, 4)
    model = Attention()
    optimizer = KFAC(model, likelihood="categorical", quadratic_model=True)
    assert optimizer.coverage().share == 1
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        functional.cross_entropy(model(x), LABELS).backward()
        optimizer.step()
    assert optimizer.last_step.lr > 0


WORKER = """
import sys, warnings, torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from fisherbo.training import KFAC, NaturalGradient
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
sys.path.insert(0, folder)
from shared import MODES, batch, build
x, y = batch()
for name, options in MODES.items():
    model = build()
    wrapped = DistributedDataParallel(model)
    given = wrapped if name == "given wrapped" else model
    optimizer = KFAC(given, likelihood="categorical", **options)
    rows = slice(rank * 6, rank * 6 + 6)
    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(wrapped(x[rows]), y[rows])
        loss.backward()
        return loss
    if name == "natural":
        optimizer.remove_hooks()
        optimizer = NaturalGradient(model, likelihood="categorical", tolerance=1e-12, lr=0.3)
    for step in range(6):
        if name == "resumed" and step == 3:
            state, generators = optimizer.state_dict(), None
            kept = [state if rank == 0 else None]
            dist.broadcast_object_list(kept, 0)  # as from the file that rank 0 wrote
            optimizer.remove_hooks()
            optimizer = KFAC(model, likelihood="categorical", seed=9, **options)
            optimizer.load_state_dict(kept[0])
        optimizer.step(closure)
    torch.save([p.detach() for p in model.parameters()], f"{folder}/{name}-{rank}.pt")
dist.destroy_process_group()
"""

SHARED = """
import torch
from torch import nn
MODES = {
    "plain": {"fisher": "type2"},
    "given wrapped": {"fisher": "type2"},
    "ekfac": {"fisher": "type2", "eigen_correction": True},
    "empirical": {"fisher": "empirical"},
    "adaptive": {"fisher": "type2", "adaptive_damping": True, "quadratic_model": True,
                 "adaptation_interval": 2},
    "sampled": {"fisher": "mc"},
    "resumed": {"fisher": "mc"},
    "natural": {"fisher": "type2"},
}
def build():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.LayerNorm(5), nn.PReLU(), nn.Linear(5, 3))
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    return model.double()
def batch():
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, torch.arange(12) % 3
"""


@pytest.mark.slow
def test_two_processes_train_as_one_on_all_rows(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, str(rank), str(tmp_path)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    shared: dict[str, Any] = {}
    exec(SHARED, shared)
    x, y = shared["batch"]()
    for name, options in shared["MODES"].items():
        both = [torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2)]
        for p, q in zip(*both, strict=True):
            assert torch.equal(p, q), name
        if options["fisher"] == "mc":
            continue
        model = shared["build"]()
        optimizer: Any = KFAC(model, likelihood="categorical", **options)
        if name == "natural":
            optimizer.remove_hooks()
            optimizer = NaturalGradient(model, likelihood="categorical", tolerance=1e-12, lr=0.3)

        def closure(model: nn.Module = model, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        for _ in range(6):
            optimizer.step(closure)
        for p, q in zip(model.parameters(), both[0], strict=True):
            assert_close(p.detach(), q, atol=1e-10, rtol=1e-10, msg=name)
    sampled, resumed = (torch.load(tmp_path / f"{name}-0.pt") for name in ("sampled", "resumed"))
    for p, q in zip(sampled, resumed, strict=True):
        assert torch.equal(p, q)
