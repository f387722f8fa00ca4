"""Processes that see different layers, fail differently, and share the inversions out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.training import KFAC
from fisherbo.training.processes import shares


@given(st.lists(st.floats(0, 1e12), max_size=30), st.integers(1, 8))
def test_shares_are_balanced(costs: list[float], processes: int) -> None:
    """No process has more than the mean and one task more (Graham 1969)."""
    owners = shares(costs, processes)
    assert len(owners) == len(costs)
    loads = [sum(c for c, o in zip(costs, owners, strict=True) if o == p) for p in range(processes)]
    if costs:
        assert max(loads) <= sum(costs) / processes + max(costs) * (1 + 1e-9)


SHARED = """
import torch
from torch import nn
MODES = {
    "kfac": {}, "exact": {"exact_damping": True}, "ekfac": {"eigen_correction": True},
    "late": {"inverse_interval": 2}, "empirical": {"fisher": "empirical"},
}
class Branched(nn.Module):
    def __init__(self, same):
        super().__init__()
        self.a, self.norm, self.h = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 6) if same else nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 6))
        for index, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
        self.double()
    def forward(self, x, used):
        h = self.norm(self.a(x).tanh())
        for name in used:
            h = h + getattr(self, name)(h).tanh()
        return self.h(h)
def batch():
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, torch.arange(12) % 3
"""

START = """
import os, sys, torch
import torch.distributed as dist
from datetime import timedelta
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from fisherbo.errors import FisherboError
from fisherbo.training import KFAC, NaturalGradient, blocks, update
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
                        timeout=timedelta(seconds=60))
sys.path.insert(0, folder)
from shared import MODES, Branched, batch
x, y = batch()
mine = slice(rank * 6, rank * 6 + 6)
def step(model, optimizer, used):
    optimizer.zero_grad()
    functional.cross_entropy(model(x[mine], used), y[mine]).backward()
    optimizer.step()
def start(same=True, **options):
    model = Branched(same)
    optimizer = KFAC(model, likelihood="categorical", lr=0.05, **({"fisher": "type2"} | options))
    return DistributedDataParallel(model, find_unused_parameters=True), optimizer
"""


def run(tmp_path: Path, code: str) -> list[str]:
    """What two processes print, with the shared code before theirs."""
    (tmp_path / "shared.py").write_text(SHARED)
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", START + code, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], [error for _, error in outputs]
    return [text for text, _ in outputs]


DIFFERENT = """
for same in (True, False):
    for name, options in MODES.items():
        model, optimizer = start(same, **options)
        for index in range(16):  # 11: b is seen first, by one process, between two updates
            used = ["", "c"] if index < 11 else ["b", ""] if index == 11 else ["b", "bc"]
            step(model, optimizer, used[rank])
        torch.save([p.detach() for p in model.parameters()], f"{folder}/{same}-{name}-{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_that_use_different_layers_take_the_same_step(tmp_path: Path) -> None:
    run(tmp_path, DIFFERENT)
    shared: dict[str, Any] = {}
    exec(SHARED, shared)
    for same in (True, False):
        for name in shared["MODES"]:
            both = [torch.load(tmp_path / f"{same}-{name}-{rank}.pt") for rank in range(2)]
            for p, q in zip(*both, strict=True):
                assert torch.equal(p, q), (same, name)
                assert p.isfinite().all()


SHARING = """
calls = []
real = blocks.factorise
update.factorise = lambda layer, *rest: (calls.append(layer.name), real(layer, *rest))
for name, options in MODES.items():
    model, optimizer = start(**options)
    for index in range(6):
        step(model, optimizer, "bc")
    torch.save([p.detach() for p in model.parameters()], f"{folder}/{name}-{rank}.pt")
    print(*sorted(set(calls)))
    calls.clear()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_each_process_inverts_its_share_and_the_step_is_that_of_one_process(tmp_path: Path) -> None:
    first, second = (text.splitlines() for text in run(tmp_path, SHARING))
    shared: dict[str, Any] = {}
    exec(SHARED, shared)
    x, y = shared["batch"]()
    for index, (name, options) in enumerate(shared["MODES"].items()):
        one, other = first[index].split(), second[index].split()
        assert not set(one) & set(other)
        assert sorted(one + other) == ["a", "b", "c", "h", "norm"]
        assert min(len(one), len(other)) == 2
        model = shared["Branched"](True)
        optimizer = KFAC(
            model, likelihood="categorical", lr=0.05, **({"fisher": "type2"} | options)
        )
        for _ in range(6):
            optimizer.zero_grad()
            functional.cross_entropy(model(x, "bc"), y).backward()
            optimizer.step()
        both = [torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2)]
        for p, q, r in zip(*both, model.parameters(), strict=True):
            assert torch.equal(p, q), name
            assert_close(p, r.detach(), atol=1e-10, rtol=1e-10, msg=name)


APART = """
model, optimizer = start()
for index in range(4):
    step(model, optimizer, ["b", "c"][rank])
torch.save([p.detach() for p in model.parameters()], f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_rows_that_do_not_pass_a_layer_count_whichever_process_has_them(tmp_path: Path) -> None:
    """The step is that of one process with both passes."""
    run(tmp_path, APART)
    shared: dict[str, Any] = {}
    exec(SHARED, shared)
    x, y = shared["batch"]()
    model = shared["Branched"](True)
    optimizer = KFAC(model, likelihood="categorical", lr=0.05, fisher="type2")
    for _ in range(4):
        optimizer.zero_grad()
        for used, half in (("b", slice(0, 6)), ("c", slice(6, 12))):
            (functional.cross_entropy(model(x[half], used), y[half]) / 2).backward()
        optimizer.step()
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for p, q, r in zip(*both, model.parameters(), strict=True):
        assert torch.equal(p, q)
        assert_close(p, r.detach(), atol=1e-10, rtol=1e-10)


EXPOSED = """
class Mixed(Branched):
    def forward(self, x, used):
        z = super().forward(x, used)
        return z + functional.linear(x[:, :6], self.b.weight[:3, :4]) if "!" in used else z
    def __getattr__(self, name):
        return nn.Identity() if name == "!" else super().__getattr__(name)
model = Mixed(True)
optimizer = KFAC(model, likelihood="categorical", lr=0.05)
wrapped = DistributedDataParallel(model, find_unused_parameters=True)
for index in range(4):
    step(wrapped, optimizer, "b!" if rank and index == 2 else "b")
    print("b" in optimizer.coverage().covered)
torch.save([p.detach() for p in model.parameters()], f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_weight_that_one_process_uses_by_a_function_is_left_by_all(tmp_path: Path) -> None:
    texts = run(tmp_path, EXPOSED)
    assert [text.split() for text in texts] == 2 * [["True", "True", "False", "False"]]
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for p, q in zip(*both, strict=True):
        assert torch.equal(p, q)


FAILURES = """
def expect(text, action):
    try:
        action()
    except FisherboError as error:
        assert text in str(error), error
        return
    raise AssertionError(f"no error: {text}")

def failing(layer, *rest):  # in one process alone
    from fisherbo.errors import NumericalError
    if layer.name == "b":
        raise NumericalError("too bad")
    return real(layer, *rest)

real = update.factorise
model, optimizer = start()
update.factorise = failing
expect("the factors of module 'b' cannot be inverted", lambda: step(model, optimizer, "bc"))
update.factorise = real

model, optimizer = start()
def closure():
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(x[mine], "b"), y[mine])
    loss.backward()
    return loss.detach() * (float("nan") if rank else 1.0)
expect("the loss is nan", lambda: optimizer.step(closure))

model, optimizer = start()
functional.cross_entropy(model.module(x[mine], "bc"[rank]), y[mine]).backward()  # not by DDP
expect("must have a gradient in all 2 processes or in none, got 1", optimizer.step)

model, optimizer = start(quadratic_model=True)
step(model, optimizer, "b")
if rank:
    optimizer.remove_hooks()
expect("the quadratic model needs the forward pass", lambda: step(model, optimizer, "b"))

model = Branched(True)
optimizer = NaturalGradient(model, likelihood="categorical")
if rank:
    optimizer.remove_hooks()
wrapped = DistributedDataParallel(model, find_unused_parameters=True)
expect("needs a forward pass of the whole model", lambda: step(wrapped, optimizer, "b"))

model = Branched(True)
optimizer = NaturalGradient(model, likelihood="categorical")
wrapped = DistributedDataParallel(model)
step(wrapped, optimizer, "bc")
optimizer.zero_grad()
functional.cross_entropy(wrapped(x[mine], "bc"), y[mine]).backward()
if rank:
    optimizer._passes[0].args[0].fill_(float("inf"))
expect("an output of the model is not finite", optimizer.step)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_what_fails_in_one_process_fails_in_all(tmp_path: Path) -> None:
    run(tmp_path, FAILURES)


def test_one_process_exchanges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        for name in ("all_reduce", "broadcast"):
            monkeypatch.setattr(torch.distributed, name, None)
        model = nn.Sequential(nn.Linear(4, 3), nn.PReLU(), nn.Linear(3, 2))
        optimizer = KFAC(model, likelihood="normal", eigen_correction=True)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(5, 4)).square().mean().backward()
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()
