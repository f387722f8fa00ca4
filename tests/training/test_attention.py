"""`nn.MultiheadAttention` against the same attention of Linear modules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from fisherbo.training import KFAC
from fisherbo.training.attention import attended, random_state

E, H = 8, 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(**options: Any) -> nn.MultiheadAttention:
    module = nn.MultiheadAttention(E, H, **({"batch_first": True} | options)).double()
    for index, parameter in enumerate(module.parameters()):
        with torch.no_grad():
            parameter.copy_(0.4 * normal(*parameter.shape, seed=index))
    return module


class Linears(nn.Module):
    """The attention as four Linear modules."""

    def __init__(self, module: nn.MultiheadAttention) -> None:
        super().__init__()
        bias = module.in_proj_bias is not None
        self.parts = nn.ModuleList(nn.Linear(E, E, bias=bias).double() for _ in range(4))
        weights = [*module.in_proj_weight.chunk(3), module.out_proj.weight]
        with torch.no_grad():
            for part, weight in zip(self.parts, weights, strict=True):
                part.weight.copy_(weight)
            if bias:
                biases = [*module.in_proj_bias.chunk(3), module.out_proj.bias]
                for part, values in zip(self.parts, biases, strict=True):
                    part.bias.copy_(values)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None
    ) -> Tensor:
        heads = [
            part(u).unflatten(-1, (H, -1)).transpose(1, 2)
            for part, u in zip(self.parts, (query, key, value), strict=False)
        ]
        mixed = functional.scaled_dot_product_attention(*heads, attn_mask=attn_mask)
        return self.parts[3](mixed.transpose(1, 2).flatten(2))


class Net(nn.Module):
    def __init__(self, attention: nn.Module, cross: bool, mask: bool) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(E, E).double(), nn.Linear(E, 3).double()
        for index, part in enumerate((self.first, self.head)):
            with torch.no_grad():
                part.weight.copy_(0.4 * normal(*part.weight.shape, seed=20 + index))
                part.bias.zero_()
        self.attention, self.cross, self.mask = attention, cross, mask

    def forward(self, x: Tensor) -> Tensor:
        key = self.first(x)
        query, value = (key[:, :2], torch.tanh(key)) if self.cross else (key, key)
        allowed = torch.ones(query.shape[1], key.shape[1]).tril().bool() if self.mask else None
        if isinstance(self.attention, nn.MultiheadAttention):
            masked = None if allowed is None else ~allowed
            h, _ = self.attention(query, key, value, attn_mask=masked, need_weights=False)
        else:
            h = self.attention(query, key, value, allowed)
        return self.head(torch.tanh(h).mean(1))


def train(model: nn.Module, x: Tensor, steps: int = 5, **options: Any) -> tuple[Tensor, KFAC]:
    defaults: dict[str, Any] = {"fisher": "type2", "factor_interval": 2}
    defaults |= {"second_moment": "fisher", "kl_clip": None}
    optimizer = KFAC(model, likelihood="categorical", **(defaults | options))
    outputs = []
    for _ in range(steps):
        optimizer.zero_grad()
        z = model(x)
        outputs.append(z.detach())
        functional.cross_entropy(z, torch.arange(len(x)) % 3).backward()
        optimizer.step()
    return torch.stack(outputs), optimizer


OPTIONS: dict[str, dict[str, Any]] = {
    "pi": {},
    "ekfac": {"eigen_correction": True},
    "reduce": {"weight_sharing": "reduce", "exact_damping": True},
    "empirical": {"fisher": "empirical"},
    "blocks": {"max_factor_size": 5},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("cross", "mask"), [(False, False), (False, True), (True, False)])
def test_it_trains_as_an_attention_of_linear_modules(
    options: str, bias: bool, cross: bool, mask: bool
) -> None:
    module, x = attention(bias=bias), normal(6, 5, E, seed=9)
    models = [Net(module, cross, mask), Net(Linears(module), cross, mask)]
    (mine, optimizer), (theirs, _) = (train(model, x, **OPTIONS[options]) for model in models)
    assert optimizer.coverage().share == 1
    assert (theirs[-1] - theirs[0]).abs().max() > 0.1
    assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


CALLS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "batch first": ({}, lambda: (normal(3, 5, E),) * 3, {}),
    "batch second": ({"batch_first": False}, lambda: (normal(5, 3, E),) * 3, {}),
    "one row": ({}, lambda: (normal(5, E),) * 3, {}),
    "cross": ({}, lambda: (normal(3, 2, E), *(normal(3, 5, E, seed=1),) * 2), {}),
    "three": ({}, lambda: (normal(3, 2, E), normal(3, 5, E, seed=1), normal(3, 5, E, seed=2)), {}),
    "long queries": ({}, lambda: (normal(3, 6, E), *(normal(3, 2, E, seed=1),) * 2), {}),
    "no weights": ({}, lambda: (normal(3, 5, E),) * 3, {"need_weights": False}),
    "every head": ({}, lambda: (normal(3, 5, E),) * 3, {"average_attn_weights": False}),
    "padding": (
        {},
        lambda: (normal(3, 5, E),) * 3,
        {"key_padding_mask": torch.arange(5) > torch.tensor([[2], [4], [5]])},
    ),
    "causal": (
        {},
        lambda: (normal(3, 5, E),) * 3,
        {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True, "need_weights": False},
    ),
    "added mask": ({}, lambda: (normal(3, 5, E),) * 3, {"attn_mask": normal(5, 5, seed=3)}),
    "dropout": ({"dropout": 0.4}, lambda: (normal(3, 5, E),) * 3, {}),
    "dropout, no weights": (
        {"dropout": 0.4},
        lambda: (normal(3, 5, E),) * 3,
        {"need_weights": False},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_computed_anew_is_the_same_call(name: str) -> None:
    options, sources, keywords = CALLS[name]
    module, args = attention(**options), sources()
    torch.manual_seed(3)
    state = random_state(module)
    outputs, weights = module(*args, **keywords)
    after = torch.get_rng_state()
    found = attended(module, args, keywords, state)
    assert torch.equal(torch.get_rng_state(), after)
    assert_close(found.outputs[0], outputs)
    assert (found.outputs[1] is None) == (weights is None)
    if weights is not None:
        assert_close(found.outputs[1], weights)
    parameters = list(module.parameters())
    mine = torch.autograd.grad(found.outputs[0].square().sum(), parameters)
    for one, other in zip(
        mine, torch.autograd.grad(outputs.square().sum(), parameters), strict=True
    ):
        assert_close(one, other)


def layers() -> dict[str, nn.Module]:
    common = {"d_model": E, "nhead": H, "dim_feedforward": 12, "batch_first": True}
    return {
        "encoder": nn.TransformerEncoderLayer(**common, dropout=0.2).double(),
        "decoder": nn.TransformerDecoderLayer(**common, dropout=0.2).double(),
    }


class Transformer(nn.Module):
    def __init__(self, name: str, again: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = layers()[name], nn.Linear(E, 3).double()
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        args = (x, x[:, :2]) if isinstance(self.layer, nn.TransformerDecoderLayer) else (x,)
        h = checkpoint(self.layer, *args, use_reentrant=False) if self.again else self.layer(*args)
        return self.head(h.mean(1))


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_the_forward_pass_and_its_random_numbers_stay_as_they_were(name: str) -> None:
    x = normal(6, 4, E)
    model = Transformer(name)
    plain = copy.deepcopy(model)
    optimizer = KFAC(model, likelihood="categorical")
    assert optimizer.coverage().share == 1
    grads = []
    for one in (plain, model):
        torch.manual_seed(5)
        z = one(x)
        functional.cross_entropy(z, torch.arange(6) % 3).backward()
        grads.append([z, torch.rand(2), *(p.grad for p in one.parameters())])
    for mine, theirs in zip(*grads, strict=True):
        assert_close(mine, theirs)
    optimizer.step()
    assert all(x["factor_updates"] == 1 for x in optimizer.state.values() if "factor_updates" in x)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_checkpointed_transformer_trains_as_a_plain_one(name: str) -> None:
    x, found = normal(6, 4, E), []
    for again in (False, True):
        model = Transformer(name, again)
        torch.manual_seed(1)
        found.append(train(model, x, 8, fisher="mc", factor_interval=3, lr=0.01)[0])
    assert_close(found[0], found[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo
def test_a_compiled_transformer_trains_as_a_plain_one() -> None:
    x, found = normal(6, 4, E), []
    for compiled in (False, True):
        model = Transformer("encoder")
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.layer.self_attn.dropout = 0.0
        optimizer = KFAC(model, likelihood="categorical", fisher="type2", factor_interval=3)
        run = torch.compile(model, backend="eager") if compiled else model
        for _ in range(5):
            optimizer.zero_grad()
            z = run(x)
            functional.cross_entropy(z, torch.arange(6) % 3).backward()
            optimizer.step()
        found.append(z.detach())
    assert_close(found[0], found[1])


def test_the_quadratic_model_sees_attention() -> None:
    model, x = Net(attention(), False, False), normal(6, 5, E)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        outputs, _ = train(model, x, 6, quadratic_model=True, damping=0.1)
    y = torch.arange(6) % 3
    losses = [functional.cross_entropy(z, y).item() for z in outputs]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("part", ["in_proj", "out_proj"])
def test_a_frozen_part_leaves_the_other_trained(part: str) -> None:
    model = Net(attention(), False, False)
    for name, parameter in model.attention.named_parameters():
        parameter.requires_grad_(not name.startswith(part))
    before = [p.detach().clone() for p in model.attention.parameters()]
    train(model, normal(6, 5, E), 2)
    for parameter, old in zip(model.attention.parameters(), before, strict=True):
        assert torch.equal(parameter, old) != parameter.requires_grad


@pytest.mark.parametrize("excluded", ["attention", "attention.out_proj"])
def test_an_excluded_part_is_trained_by_adamw(excluded: str) -> None:
    model = Net(attention(), False, False)
    before = [p.detach().clone() for p in model.attention.parameters()]
    _, optimizer = train(model, normal(6, 5, E), 2, exclude=[excluded])
    left = {"attention": ["attention", "attention.out_proj"]}.get(excluded, [excluded])
    assert [name for name, _ in optimizer.coverage().uncovered] == left
    for parameter, old in zip(model.attention.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)
