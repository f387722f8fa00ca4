"""Copies, replaced parameters, transforms, frozen and unused layers, schedulers."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.optim import lr_scheduler
from torch.testing import assert_close

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import KFAC, NaturalGradient
from fisherbo.training.checkpoint import continue_generator

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3

MODES: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "kfac": lambda m: KFAC(m, likelihood="categorical", lr=0.05, mc_samples=2),
    "ekfac": lambda m: KFAC(m, likelihood="categorical", lr=0.05, eigen_correction=True),
    "adaptive": lambda m: KFAC(
        m, likelihood="categorical", adaptive_damping=True, quadratic_model=True,
        adaptation_interval=2,
    ),
    "grouped": lambda m: KFAC(
        m, likelihood="categorical", groups=[{"modules": ["0"], "lr": 0.02}], recover=True,
    ),
    "natural": lambda m: NaturalGradient(m, likelihood="categorical", lr=0.3, momentum=0.5),
}  # fmt: skip
PLAIN = ["kfac", "ekfac", "natural"]


def network() -> nn.Sequential:
    """Covered layers and a weight for AdamW."""
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.LayerNorm(5), nn.Linear(5, 3))
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    return model


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(X), LABELS)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def saved(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("mode", MODES)
def test_a_copied_pair_continues_to_the_bit_and_by_itself(mode: str, clone: Any) -> None:
    model = network()
    optimizer = MODES[mode](model)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.9)
    advance(model, optimizer, 7)
    scheduler.step()
    twin, other = clone((model, optimizer))
    assert type(other) is type(optimizer)
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    before = weights(model)
    expected = advance(twin, other, 8)
    assert all(map(torch.equal, before, weights(model)))
    assert advance(model, optimizer, 8) == expected
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("mode", PLAIN)
def test_an_optimizer_copied_alone_takes_its_model_along(mode: str) -> None:
    model = network()
    optimizer = MODES[mode](model)
    other = copy.deepcopy(optimizer)
    assert advance(other._model, other, 3) == advance(model, optimizer, 3)


@pytest.mark.parametrize("mode", PLAIN)
def test_a_copy_without_hooks_has_none(mode: str) -> None:
    model = network()
    optimizer = MODES[mode](model)
    optimizer.remove_hooks()
    twin, _ = copy.deepcopy((model, optimizer))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())


def test_hooks_do_not_pile_up_in_copies_nor_from_dropped_optimizers() -> None:
    def hooks(model: nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    model = network()
    pair = (model, MODES["kfac"](model))
    count = hooks(model)
    for _ in range(3):
        pair = copy.deepcopy(pair)
    assert hooks(pair[0]) == count
    for _ in range(3):
        KFAC(model, likelihood="categorical")
        gc.collect()
    KFAC(copy.deepcopy(model), likelihood="categorical")
    assert hooks(model) <= 2 * count


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("clone", [copy.deepcopy, pickled])
def test_a_model_that_has_its_optimizer_as_an_attribute_says_so(mode: str, clone: Any) -> None:
    model = network()
    model.optimizer = MODES[mode](model)
    with pytest.raises(TypeError, match=r"as an attribute cannot be copied.*beside each other"):
        clone(model)


def test_the_hooks_of_the_user_stay() -> None:
    model, seen = network(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    twin, _ = copy.deepcopy((model, KFAC(model, likelihood="categorical")))
    twin(X)
    assert seen == [1]


@pytest.mark.parametrize("kind", [KFAC, NaturalGradient])
@pytest.mark.parametrize(
    "given",
    [
        lambda m: m.parameters(),
        lambda m: list(m.parameters()),
        lambda m: [{"params": list(m.parameters())}],
        lambda m: None,
    ],
)
def test_parameters_in_place_of_the_model_are_refused(kind: Any, given: Any) -> None:
    with pytest.raises(InvalidInputError, match=rf"must be given the model.*{kind.__name__}\(mod"):
        kind(given(network()), likelihood="categorical")


def test_parameters_without_values_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'weight' on the meta device"):
        KFAC(nn.Linear(2, 2, device="meta"), likelihood="categorical")


REPLACED: dict[str, Callable[[nn.Module], Any]] = {
    "pruned": lambda m: prune.l1_unstructured(m[0], "weight", 0.5),
    "parametrized": lambda m: parametrizations.weight_norm(m[0]),
    "uncovered": lambda m: prune.l1_unstructured(m[1], "weight", 1),
    "assigned": lambda m: m.load_state_dict(
        {k: v.clone() for k, v in m.state_dict().items()}, assign=True
    ),
    "another head": lambda m: m.__setitem__(3, nn.Linear(5, 3)),
    "a further module": lambda m: m.append(nn.Linear(3, 3)),
    "removed": lambda m: m.__delitem__(3),
}


@pytest.mark.parametrize("change", REPLACED)
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("mode", PLAIN)
def test_replaced_parameters_are_refused_at_the_step(mode: str, change: str, steps: int) -> None:
    model = network()
    optimizer = MODES[mode](model)
    advance(model, optimizer, steps)
    REPLACED[change](model)
    labels = torch.zeros(12, dtype=torch.int64)
    functional.cross_entropy(model(X), labels).backward()
    before = weights(model)
    with pytest.raises(InvalidInputError, match=r"got another '\d\.\w+'.*after the change"):
        optimizer.step()
    assert all(map(torch.equal, before, weights(model)))


@pytest.mark.parametrize("mode", PLAIN)
def test_modules_without_parameters_may_be_replaced(mode: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = MODES[mode](model)
    advance(model, optimizer, 1)
    model[1] = nn.Tanh()
    model.append(nn.Identity())
    losses = advance(model, optimizer, 3)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("mode", PLAIN)
def test_a_model_that_is_moved_is_refused(mode: str) -> None:
    model = network()
    optimizer = MODES[mode](model)
    model.double()
    functional.cross_entropy(model(X.double()), LABELS).backward()
    with pytest.raises(InvalidInputError, match=r"torch.float32 on cpu, got torch.float64 on cpu"):
        optimizer.step()


def per_sample(model: nn.Module) -> Any:
    def loss(p: Any, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(torch.func.functional_call(model, p, (x[None],)), y[None])

    detached = {name: p.detach() for name, p in model.named_parameters()}
    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(detached, X, LABELS)


ELSEWHERE: dict[str, Callable[[nn.Module], Any]] = {
    "other weights": lambda m: torch.func.functional_call(
        m, {n: p.detach().clone().requires_grad_() for n, p in m.named_parameters()}, (X,)
    ),
    "another head": lambda m: torch.func.functional_call(
        m, {"3.weight": torch.zeros(3, 5, requires_grad=True)}, (X,)
    ),
    "per sample": per_sample,
    "vmap": lambda m: torch.func.vmap(m)(X),
    "jacobian": lambda m: torch.func.jacrev(m)(X),
    "tangent": lambda m: torch.func.jvp(m, (X,), (X,)),
    "export": lambda m: torch.export.export(m, (X,)),
    "strict export": lambda m: torch.export.export(m, (X,), strict=True),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("use", ELSEWHERE)
@pytest.mark.parametrize("mode", [*PLAIN, "adaptive"])
def test_passes_under_transforms_and_with_other_weights_change_nothing(mode: str, use: str) -> None:
    straight = network()
    optimizer = MODES[mode](straight)
    expected = advance(straight, optimizer, 4)
    keys = optimizer.state_dict()["state"].keys()
    model = network()
    optimizer = MODES[mode](model)
    losses = []
    for _ in range(4):
        with torch.random.fork_rng():
            ELSEWHERE[use](model)
        losses += advance(model, optimizer, 1)
    assert losses == expected
    assert optimizer.state_dict()["state"].keys() == keys


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", PLAIN)
def test_scripting_a_watched_model_says_what_to_do(mode: str) -> None:
    model = network()
    optimizer = MODES[mode](model)
    with pytest.raises(InvalidInputError, match=r"call remove_hooks\(\) of the optimizer first"):
        torch.jit.script(model)
    optimizer.remove_hooks()
    assert_close(torch.jit.script(model)(X), model(X))


class Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).squeeze()


@pytest.mark.parametrize("kind", [KFAC, NaturalGradient])
def test_an_output_without_dimensions_says_so(kind: Any) -> None:
    model = Squeezed()
    _optimizer = kind(model, likelihood="normal")
    model(X)
    with pytest.raises(InvalidInputError, match=r"tensor of no dimension.*use squeeze\(-1\)"):
        model(X[:1])


class Branched(nn.Module):
    """A branch that is called only when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.branch = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 5)
        self.use = False

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        return self.last(h + self.branch(h).tanh() if self.use else h)


@pytest.mark.parametrize("fisher", ["mc", "type2", "empirical"])
@pytest.mark.parametrize("mode", [{}, {"eigen_correction": True}, {"quadratic_model": True}])
def test_a_layer_gets_factors_where_it_is_used_first_and_is_not_waited_for(
    mode: dict[str, Any], fisher: str
) -> None:
    model = Branched()
    optimizer = KFAC(model, likelihood="categorical", fisher=fisher, lr=0.02, **mode)

    def updates(layer: nn.Linear) -> int:
        return optimizer.state[layer.weight]["factor_updates"]

    advance(model, optimizer, 21)
    assert (updates(model.first), updates(model.branch)) == (16 if mode else 8, 0)
    model.use = True
    before = model.branch.weight.detach().clone()
    advance(model, optimizer, 1)
    assert (updates(model.first), updates(model.branch)) == (16 if mode else 8, 1)
    assert not torch.equal(model.branch.weight, before)
    model.use = False
    advance(model, optimizer, 1)
    assert (updates(model.first), updates(model.branch)) == (16 if mode else 8, 1)


def test_the_factors_of_a_layer_seen_between_updates_are_those_of_its_pass() -> None:
    model = Branched()
    optimizer = KFAC(model, likelihood="categorical", fisher="type2", lr=0.0)
    advance(model, optimizer, 12)
    model.use = True
    advance(model, optimizer, 1)
    other = KFAC(copy.deepcopy(model), likelihood="categorical", fisher="type2", lr=0.0)
    advance(other._model, other, 1)
    for name in ("input_factor", "output_factor"):
        assert_close(
            optimizer.state[model.branch.weight][name],
            other.state[other._model.branch.weight][name],
        )


@pytest.mark.parametrize("fisher", ["type2", "empirical"])
def test_rows_count_for_a_layer_that_their_pass_does_not_lead_through(fisher: str) -> None:
    """In two passes that are accumulated between updates, the second past the layer."""
    factors = []
    for passes in ([True], [True, False]):
        torch.manual_seed(0)
        model = Branched()
        optimizer = KFAC(
            model, likelihood="categorical", fisher=fisher, lr=0.0, loss_reduction="sum"
        )
        advance(model, optimizer, 12)
        optimizer.zero_grad()
        for model.use in passes:
            functional.cross_entropy(model(X), LABELS, reduction="sum").backward()
        optimizer.step()
        factors.append(optimizer.state[model.branch.weight]["output_factor"])
    assert_close(factors[1], factors[0] / 2)


def size_of_state(optimizer: torch.optim.Optimizer, parameters: Any) -> int:
    states = [optimizer.state.get(p, {}) for p in parameters]
    return sum(v.numel() for s in states for v in s.values() if isinstance(v, Tensor))


@pytest.mark.parametrize("mode", ["kfac", "ekfac", "adaptive", "grouped"])
def test_frozen_layers_have_no_state_until_they_are_trained(mode: str) -> None:
    model = network()
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    optimizer = MODES[mode](model)
    frozen = [*model[0].parameters(), *model[1].parameters()]
    advance(model, optimizer, 3)
    assert size_of_state(optimizer, frozen) == 0
    before = [p.detach().clone() for p in frozen]
    model.requires_grad_(True)
    advance(model, optimizer, 12)
    for parameter, old in zip(frozen, before, strict=True):
        assert not torch.equal(parameter, old)
    keys = optimizer.state[model[0].weight].keys() - optimizer.state[model[2].weight].keys()
    assert {"momentum_buffer", "first_moment"} & optimizer.state[model[0].weight].keys()
    assert {*keys} <= {"input_factor", "input_inverse", "input_basis", "output_basis", "spectrum"}


@pytest.mark.parametrize("mode", ["kfac", "ekfac", "adaptive", "grouped"])
@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("frozen", [(True, True), (True, False), (False, True)])
def test_checkpoints_load_whichever_layers_are_frozen(
    mode: str, index: int, frozen: tuple[bool, bool]
) -> None:
    """At saving and at loading."""
    first = network()
    first[index].requires_grad_(not frozen[0])
    optimizer = MODES[mode](first)
    advance(first, optimizer, 4)
    state = saved(optimizer.state_dict())
    second = network()
    second.load_state_dict(first.state_dict())
    second[index].requires_grad_(not frozen[1])
    resumed = MODES[mode](second)
    resumed.load_state_dict(state)
    first[index].requires_grad_(not frozen[1])
    assert advance(second, resumed, 8) == advance(first, optimizer, 8)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
@pytest.mark.parametrize("mode", ["kfac", "adaptive"])
def test_counters_survive_a_distributed_checkpoint_after_the_first_layer_is_frozen(
    mode: str, tmp_path: Any
) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import state_dict as parts

    first = network()
    optimizer = MODES[mode](first)
    advance(first, optimizer, 3)
    first[0].requires_grad_(False)
    advance(first, optimizer, 4)
    dcp.save({"o": parts.get_optimizer_state_dict(first, optimizer)}, checkpoint_id=tmp_path)
    second = network()
    second.load_state_dict(first.state_dict())
    second[0].requires_grad_(False)
    resumed = MODES[mode](second)
    loaded = {"o": parts.get_optimizer_state_dict(second, resumed)}
    dcp.load(loaded, checkpoint_id=tmp_path)
    parts.set_optimizer_state_dict(second, resumed, loaded["o"])
    assert advance(second, resumed, 5) == advance(first, optimizer, 5)


def test_a_state_without_counters_is_refused() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    state = optimizer.state_dict()
    del state["state"][0]["steps"]
    with pytest.raises(InvalidInputError, match=r"must have steps, setbacks.*got none"):
        optimizer.load_state_dict(state)


def test_the_natural_gradient_takes_no_further_group() -> None:
    optimizer = NaturalGradient(network(), likelihood="categorical")
    with pytest.raises(InvalidInputError, match="follows from its model, got a further group"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def test_gradients_left_on_frozen_parameters_are_no_matter() -> None:
    model = network()
    functional.cross_entropy(model(X), LABELS).backward()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    advance(model, NaturalGradient(model, likelihood="categorical"), 2)
    assert torch.equal(model[0].weight, before)


def test_a_generator_of_another_device_gives_a_seed() -> None:
    generator, other = torch.Generator(), torch.Generator()
    continue_generator(generator, torch.arange(16, dtype=torch.uint8))  # as of a CUDA generator
    continue_generator(other, torch.arange(16, dtype=torch.uint8))
    first = torch.rand(3, generator=generator)
    assert torch.equal(first, torch.rand(3, generator=other))
    continue_generator(other, torch.arange(1, 17, dtype=torch.uint8))
    assert not torch.equal(first, torch.rand(3, generator=other))
    continue_generator(other, generator.get_state())
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=other))


def test_the_natural_gradient_leaves_frozen_parameters_and_refuses_late_ones() -> None:
    model = network()
    optimizer = NaturalGradient(model, likelihood="categorical", weight_decay=0.1)
    advance(model, optimizer, 1)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optimizer.zero_grad()
    losses = advance(model, optimizer, 3)
    assert losses[-1] < losses[0]
    assert torch.equal(model[0].weight, before)
    late = NaturalGradient(model, likelihood="categorical")
    model[0].requires_grad_(True)
    with pytest.raises(InvalidInputError, match=r"'0.weight' must be trained when.*after unfreez"):
        advance(model, late, 1)


def test_the_natural_gradient_counts_the_passes_of_the_gradients_alone() -> None:
    """Not those of a validation in any mode, nor those whose gradients were zeroed."""
    results = []
    for others in (False, True):
        model = network()
        optimizer = NaturalGradient(model, likelihood="categorical")
        if others:
            functional.cross_entropy(model(-X), LABELS).backward()
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(X), LABELS)
        if others:
            model(-X)
            model.eval()(-X)
            model.train()
        loss.backward()
        optimizer.step()
        results.append(weights(model))
    assert all(map(torch.equal, *results))


def test_the_natural_gradient_trains_in_evaluation_mode() -> None:
    model = network().eval()
    optimizer = NaturalGradient(model, likelihood="categorical", lr=0.3, kl_clip=0.1)
    losses = advance(model, optimizer, 4)
    assert losses[-1] < losses[0]


def test_stale_factors_are_told() -> None:
    """A part of the model is called, so that no pass of the whole is watched."""
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    advance(model, optimizer, 2)
    apart = nn.Sequential(*model)
    with pytest.warns(UserWarning, match=r"no forward pass was watched before step 3.*old ones"):
        advance(apart, optimizer, 1)


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.2, step_size_up=4),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 5)),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.01),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=5),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedulers_change_the_rates_of_kfac_and_adamw_in_proportion(name: str) -> None:
    model, reference = network(), network()
    optimizer = KFAC(model, likelihood="categorical", lr=0.05, fallback_lr=2e-3, kl_clip=None)
    scheduler = SCHEDULES[name](optimizer)
    adamw = torch.optim.AdamW([reference[1].weight], weight_decay=0.0)
    for _ in range(8):
        adamw.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] / 0.05 * 2e-3
        advance(model, optimizer, 1)
        reference[1].weight.grad = model[1].weight.grad.clone()
        adamw.step()
        assert_close(model[1].weight, reference[1].weight)
        scheduler.step()


@pytest.mark.parametrize("factor", [0.1, 1.0])
def test_a_plateau_lowers_both_rates(factor: float) -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", lr=0.05)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for value in (1.0, 2.0, 3.0):
        scheduler.step(value)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0125, 0.0125]


def test_a_state_whose_last_rate_is_adamws_own_is_refused() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical")
    state = optimizer.state_dict()
    ratio = state["param_groups"][-1].pop("adamw_ratio")
    assert ratio == pytest.approx(1)
    with pytest.raises(InvalidInputError, match=r"must have 'adamw_ratio'.*base_lrs"):
        optimizer.load_state_dict(state)
    state["param_groups"][-1] |= {"adamw_ratio": ratio, "lr": 0.1}
    optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"eigen_correction": True},
        {"adaptive_damping": True},
        {"kl_clip": 1e-3, "weight_decay": 0.1, "recover": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
)
def test_no_learning_rate_moves_nothing(mode: dict[str, Any]) -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", lr=0.0, **mode)
    before = weights(model)
    losses = advance(model, optimizer, 6)
    assert len(set(losses)) == 1
    assert all(map(torch.equal, before, weights(model)))
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    optimizer.param_groups[0]["momentum"] = 0.0
    assert advance(model, optimizer, 5)[-1] < losses[0]
    assert not any(map(torch.equal, before, weights(model)))


def test_no_learning_rate_of_the_natural_gradient_moves_nothing() -> None:
    model = network()
    before = weights(model)
    advance(model, NaturalGradient(model, likelihood="categorical", lr=0.0), 2)
    assert all(map(torch.equal, before, weights(model)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.view(12, 1, 2, 2).repeat(1, 1, 1, 2)).chunk(3, -1)
        return self.out(functional.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))


def test_the_natural_gradient_trains_fused_attention() -> None:
    torch.manual_seed(0)
    model = Attention()
    losses = advance(model, NaturalGradient(model, likelihood="categorical"), 6)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("mode", [{"adaptive_damping": True, "adaptation_interval": 1},
                                  {"quadratic_model": True}])  # fmt: skip
def test_operations_without_second_derivatives_say_what_to_do(mode: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Attention()
    optimizer = KFAC(model, likelihood="categorical", lr=0.02, **mode)
    before = weights(model)
    with pytest.raises(InvalidInputError, match=r"sdpa_kernel\(SDPBackend.MATH\)"):
        advance(model, optimizer, 1)
    assert all(map(torch.equal, before, weights(model)))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        losses = advance(model, optimizer, 6)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [KFAC, NaturalGradient])
def test_a_divergence_names_the_settings_to_change(kind: Any) -> None:
    model = network()
    optimizer = kind(model, likelihood="categorical", lr=0.25, momentum=0.5, damping=0.003)
    functional.cross_entropy(model(X), LABELS).backward()
    model[0].weight.grad[0, 0] = torch.nan
    expected = r"lower lr \(now 0.25\) or momentum \(now 0.5\), raise damping \(now 0.003\), \w+ kl"
    with pytest.raises(DivergedError, match=expected):
        optimizer.step()
