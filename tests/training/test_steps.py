"""Steps in every mode against dense solves, an exact line search and the rules of the papers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import KFAC, mlp
from fisherbo.training.adaptation import adapted, reduction_ratio, situation

DAMPED: dict[str, Any] = {"second_moment": "fisher", "kl_clip": None}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(seed: int = 0) -> nn.Sequential:
    model = mlp(4, (6, 5), 3, seed).double()
    for module in model:
        if isinstance(module, nn.ReLU):
            model[model._modules and list(model).index(module)] = nn.Tanh()
    return model


X, LABELS = normal(12, 4), torch.arange(12) % 3


def closure_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor = X, y: Tensor = LABELS
) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    closure = closure_of(model, optimizer)
    return [optimizer.step(closure).item() for _ in range(steps)]


def flat(layer: nn.Linear, of: Callable[[Tensor], Tensor] = Tensor.detach) -> Tensor:
    return torch.cat([of(layer.weight), of(layer.bias)[:, None]], 1).clone()


def gradient(layer: nn.Linear) -> Tensor:
    return flat(layer, lambda p: p.grad)


@pytest.mark.parametrize("corrected", [False, True])
def test_an_exactly_damped_step_solves_the_dense_system(corrected: bool) -> None:
    model = network()
    optimizer = KFAC(
        model, **DAMPED, likelihood="categorical", fisher="type2", lr=0.2, damping=0.03,
        momentum=0.0,
        exact_damping=True, eigen_correction=corrected, weight_decay=0.01,
    )  # fmt: skip
    layers = [m for m in model if isinstance(m, nn.Linear)]
    for damping in (0.03, 0.3, 1e-3):
        optimizer.param_groups[0]["damping"] = damping
        before = [flat(layer) for layer in layers]
        fit(model, optimizer, 1)
        for layer, old in zip(layers, before, strict=True):
            state = optimizer.state[layer.weight]
            if corrected:
                basis = torch.kron(state["output_basis"], state["input_basis"])
                fisher = basis @ torch.diag(state["spectrum"].flatten()) @ basis.T
            else:
                fisher = torch.kron(state["output_factor"], state["input_factor"])
            g = (gradient(layer) + 0.01 * old).flatten()
            damped = fisher + (damping + 0.01) * torch.eye(len(fisher)).double()
            step = torch.linalg.solve(damped, g).reshape(old.shape)
            assert_close(flat(layer), old - 0.2 * step, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("options", [{"exact_damping": True}, {"eigen_correction": True}])
def test_a_changed_damping_decomposes_nothing_anew(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    optimizer = KFAC(model, **DAMPED, likelihood="categorical", factor_interval=100, **options)
    fit(model, optimizer, 30)  # no factors at the next three steps

    def never(*_: object) -> None:
        raise AssertionError("decomposed")

    monkeypatch.setattr("fisherbo.training.blocks.eigh", never)
    monkeypatch.setattr("fisherbo.training.blocks.psd_inverse", never)
    lengths = []
    for damping in (1e-2, 1.0, 100.0):
        optimizer.param_groups[0]["damping"] = damping
        fit(model, optimizer, 1)
        lengths.append(optimizer.last_step.slope)
    assert lengths[0] > lengths[1] > lengths[2]


def test_the_corrected_spectrum_follows_the_basis() -> None:
    """A stationary Fisher: after many changes of basis the spectrum is what one batch gives."""
    model = network()
    spectra = []
    for steps in (1, 25):
        optimizer = KFAC(
            model, likelihood="categorical", fisher="type2", eigen_correction=True,
            factor_interval=1, lr=1e-300, momentum=0.0,
        )  # fmt: skip
        fit(model, optimizer, steps)
        optimizer.remove_hooks()
        spectra.append([optimizer.state[m.weight] for m in model if isinstance(m, nn.Linear)])
    for once, often in zip(*spectra, strict=True):
        dense = []
        for state in (once, often):
            basis = torch.kron(state["output_basis"], state["input_basis"])
            dense.append(basis @ torch.diag(state["spectrum"].flatten()) @ basis.T)
        assert_close(*dense, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("scheme", [{}, {"eigen_correction": True}])
def test_empirical_factors_ignore_batch_size_reduction_and_accumulation(
    scheme: dict[str, Any],
) -> None:
    def run(times: int, parts: int, reduction: str, lr: float) -> list[Tensor]:
        model = network()
        optimizer = KFAC(
            model, **DAMPED, likelihood="categorical", fisher="empirical", loss_reduction=reduction,
            lr=lr, **scheme,
        )  # fmt: skip
        x, y = X.repeat(times, 1), LABELS.repeat(times)
        for _ in range(5):
            optimizer.zero_grad()
            for chunk, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
                loss = functional.cross_entropy(model(chunk), labels, reduction=reduction)
                (loss / parts if reduction == "mean" else loss).backward()
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    plain = run(1, 1, "mean", 0.3)
    for other in (run(3, 1, "mean", 0.3), run(1, 4, "mean", 0.3), run(1, 3, "sum", 0.3 / 12)):
        for p, q in zip(plain, other, strict=True):
            assert_close(p, q, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("options", [
    {"eigen_correction": True}, {"exact_damping": True}, {"quadratic_model": True},
    {"weight_sharing": "reduce"},
])  # fmt: skip
def test_batch_size_and_accumulation_change_nothing_in_any_mode(options: dict[str, Any]) -> None:
    def run(times: int, parts: int) -> list[Tensor]:
        model = network()
        optimizer = KFAC(
            model, likelihood="categorical", fisher="type2", damping=0.1, lr=0.3, **options
        )
        x, y = X.repeat(times, 1), LABELS.repeat(times)
        for _ in range(5):
            optimizer.zero_grad()
            for chunk, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (functional.cross_entropy(model(chunk), labels) / parts).backward()
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    plain = run(1, 1)
    for other in (run(2, 1), run(1, 3)):
        for p, q in zip(plain, other, strict=True):
            assert_close(p, q, atol=1e-10, rtol=1e-10)


def test_two_backward_passes_of_one_forward_pass_add_up() -> None:
    results = []
    for twice in (False, True):
        model = network()
        optimizer = KFAC(model, likelihood="categorical", fisher="empirical")
        loss = functional.cross_entropy(model(X), LABELS)
        if twice:
            (0.25 * loss).backward(retain_graph=True)
            (0.75 * loss).backward()
        else:
            loss.backward()
        optimizer.step()
        results.append([p.detach() for p in model.parameters()])
    for one, two in zip(*results, strict=True):
        assert_close(one, two, atol=1e-10, rtol=1e-10)


def squared_error(model: nn.Module, y: Tensor, x: Tensor = X) -> Tensor:
    return 0.5 * (model(x) - y).square().sum() / len(x)


def test_the_quadratic_model_is_exact_for_a_quadratic_loss() -> None:
    """A linear model with squared error: the model is the loss, so each step minimises it along v.

    The second step minimises it in the plane of v and the last step, as conjugate gradients do.
    """
    model, y = nn.Linear(4, 3).double(), normal(12, 3, seed=5)
    nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(1))
    optimizer = KFAC(
        model, likelihood="normal", fisher="type2", quadratic_model=True, damping=1e-8,
        weight_decay=0.1, eigen_correction=False, factor_decay=0.0,
    )  # fmt: skip
    optimizer.param_groups[0]["damping"] = 1e-12  # of the model; the blocks differ by π
    last, losses = None, []
    for step in range(3):
        optimizer.zero_grad()
        loss = squared_error(model, y)
        loss.backward()
        losses.append(loss.item())
        before = [p.detach().clone() for p in model.parameters()]
        if step == 1:  # spoil the direction, or the first step would have been the last
            for p in model.parameters():
                p.grad.add_(torch.sign(p.grad))
        optimizer.step()
        report = optimizer.last_step
        moved = [p.detach() - old for p, old in zip(model.parameters(), before, strict=True)]
        fisher = model(X).detach() - (X @ before[0].T + before[1])
        assert report.kl == pytest.approx(0.5 * fisher.square().sum().item() / 12, rel=1e-8)
        last = moved
    assert last is not None
    assert losses[1] < losses[0]


def test_the_quadratic_model_takes_newtons_step_on_a_quadratic() -> None:
    model, y = nn.Linear(4, 3).double(), normal(12, 3, seed=5)
    optimizer = KFAC(
        model, likelihood="normal", fisher="type2", quadratic_model=True, damping=1e-12,
        factor_decay=0.0, exact_damping=True,
    )  # fmt: skip
    squared_error(model, y).backward()
    optimizer.step()
    assert optimizer.last_step.lr == pytest.approx(1, rel=1e-8)  # F is exact here
    best = torch.linalg.lstsq(torch.cat([X, torch.ones(12, 1).double()], 1), y).solution.T
    assert_close(flat(model), best, atol=1e-8, rtol=1e-8)


def test_rate_and_momentum_minimise_the_model_on_a_network() -> None:
    """Against the dense GGN: α and μ solve the 2 × 2 system of Martens & Grosse (2015), § 7."""
    model = network()
    optimizer = KFAC(
        model, likelihood="categorical", fisher="type2", quadratic_model=True, damping=0.1,
        weight_decay=0.02,
    )  # fmt: skip
    fit(model, optimizer, 2)
    parameters = list(model.parameters())

    def outputs(*values: Tensor) -> Tensor:
        names = [n for n, _ in model.named_parameters()]
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), X)

    before = [p.detach().clone() for p in parameters]
    model.eval()
    jacobian = torch.cat(
        [
            j.flatten(2)
            for j in torch.autograd.functional.jacobian(outputs, tuple(before), vectorize=True)
        ],
        2,
    )
    p = outputs(*before).softmax(1)
    model.train()
    last = [p - q for p, q in zip(before, previous_of(optimizer, model), strict=True)]
    fit(model, optimizer, 1)
    move = torch.cat([(p.detach() - q).flatten() for p, q in zip(parameters, before, strict=True)])
    g = torch.cat([(p.grad + 0.02 * q).flatten() for p, q in zip(parameters, before, strict=True)])
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    ggn = torch.einsum("ncp,ncd,ndq->pq", jacobian, hessian, jacobian) / len(X)
    curvature = ggn + 0.12 * torch.eye(len(ggn)).double()
    old = torch.cat([d.flatten() for d in last])
    report = optimizer.last_step
    natural = -(move - report.momentum * old) / report.lr
    plane = torch.stack([-natural, old], 1)
    best = torch.linalg.solve(plane.T @ curvature @ plane, -plane.T @ g)
    assert_close(torch.tensor([report.lr, report.momentum]).double(), best, atol=1e-8, rtol=1e-8)
    assert report.kl == pytest.approx(0.5 * float(move @ ggn @ move), rel=1e-8)
    assert report.slope == pytest.approx(float(g @ natural), rel=1e-8)


def previous_of(optimizer: KFAC, model: nn.Module) -> list[Tensor]:
    """Parameters before the last step, from its update in the momentum buffer."""
    values = []
    for layer in [m for m in model if isinstance(m, nn.Linear)]:
        buffer = optimizer.state[layer.weight]["momentum_buffer"]
        values += [layer.weight.detach() + buffer[:, :-1], layer.bias.detach() + buffer[:, -1]]
    return values


def test_the_kl_clip_limits_the_whole_step_of_the_quadratic_model() -> None:
    model = network()
    optimizer = KFAC(
        model, likelihood="categorical", fisher="type2", quadratic_model=True, kl_clip=1e-4,
        damping=1e-3,
    )  # fmt: skip
    for _ in range(5):
        before = model(X).detach().log_softmax(1)
        fit(model, optimizer, 1)
        after = model(X).detach().log_softmax(1)
        kl = (before.exp() * (before - after)).sum(1).mean().item()
        assert optimizer.last_step.kl <= 0.5e-4 * (1 + 1e-9)
        assert kl == pytest.approx(optimizer.last_step.kl, rel=0.1)


def test_the_quadratic_model_needs_a_forward_pass() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", quadratic_model=True)
    fit(model, optimizer, 1)
    with pytest.raises(InvalidInputError, match="needs the forward pass of this step, got none"):
        optimizer.step()


def test_dropout_is_the_same_in_the_quadratic_model_and_the_second_evaluation() -> None:
    def build() -> nn.Sequential:
        plain = network()
        return nn.Sequential(plain[0], nn.Dropout(0.5), plain[1], plain[2])

    model = build()
    optimizer = KFAC(
        model, likelihood="categorical", adaptive_damping=True, adaptation_interval=1, lr=1e-9,
        momentum=0.0,
    )  # fmt: skip
    torch.manual_seed(3)
    fit(model, optimizer, 1)
    assert optimizer.last_step.ratio == pytest.approx(1, abs=1e-3)  # another mask would be far off
    after = torch.rand(1)
    torch.manual_seed(3)
    model = build()
    fit(model, torch.optim.SGD(model.parameters(), lr=1e-9), 1)
    assert torch.equal(after, torch.rand(1))  # the generator went on as if it were not there


def test_the_second_evaluation_leaves_statistics_and_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    reference = copy.deepcopy(model)
    optimizer = KFAC(model, likelihood="categorical", adaptive_damping=True, adaptation_interval=1)
    fit(model, optimizer, 1)
    functional.cross_entropy(reference(X), LABELS).backward()
    assert torch.equal(model[1].running_mean, reference[1].running_mean)
    assert model[1].num_batches_tracked == 1
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.9, 0.95**5), (0.5, 1.0), (0.1, 0.95**-5), (-math.inf, 0.95**-5), (math.nan, 1.0)],
)
def test_damping_follows_the_reduction_ratio(ratio: float, expected: float) -> None:
    assert adapted(2.0, ratio, 0.95, 5) == pytest.approx(2.0 * expected)


def test_the_reduction_ratio() -> None:
    assert reduction_ratio(-1.0, -2.0) == 0.5
    assert reduction_ratio(math.nan, -2.0) == reduction_ratio(math.inf, -2.0) == -math.inf
    assert math.isnan(reduction_ratio(-1.0, 1.0))


def test_the_ratio_is_one_where_the_model_is_exact_and_damping_falls() -> None:
    model, y = nn.Linear(4, 3).double(), normal(12, 3, seed=5)
    optimizer = KFAC(
        model, likelihood="normal", fisher="type2", adaptive_damping=True, adaptation_interval=2,
        damping=1e-10, lr=0.3, momentum=0.0, weight_decay=0.05,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = squared_error(model, y)
        loss.backward()
        return loss

    ratios, dampings = [], []
    for _ in range(6):
        optimizer.step(closure)
        ratios.append(optimizer.last_step.ratio)
        dampings.append(optimizer.param_groups[0]["damping"])
    assert [ratio is None for ratio in ratios] == [True, False] * 3
    for ratio in ratios[1::2]:
        assert ratio == pytest.approx(1, abs=1e-6)
    assert dampings == pytest.approx([1e-10 * 0.9 ** (2 * k) for k in (0, 1, 1, 2, 2, 3)])


def test_a_step_that_raises_the_loss_is_taken_back_and_damping_grows() -> None:
    model = network()
    optimizer = KFAC(
        model, likelihood="categorical", adaptive_damping=True, adaptation_interval=1, lr=0.2
    )
    fit(model, optimizer, 3)
    before = [p.detach().clone() for p in model.parameters()]
    damping = optimizer.param_groups[0]["damping"]
    calls = []

    def closure() -> Tensor:
        loss = closure_of(model, optimizer)()
        calls.append(loss)
        return loss if len(calls) == 1 else loss + 100

    optimizer.step(closure)
    assert len(calls) == 2
    assert optimizer.last_step.rejected
    assert optimizer.param_groups[0]["damping"] > damping
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, parameter)
    assert optimizer.state[model[0].weight]["momentum_buffer"].count_nonzero() == 0


def test_adaptive_damping_needs_a_closure() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", adaptive_damping=True)
    with pytest.raises(InvalidInputError, match=r"needs step\(closure\), got no closure"):
        optimizer.step()


def test_adaptive_damping_and_the_quadratic_model_train_together() -> None:
    model = network()
    optimizer = KFAC(
        model, likelihood="categorical", fisher="type2", adaptive_damping=True, damping=1.0,
        quadratic_model=True, weight_decay=1e-5,
    )  # fmt: skip
    losses = fit(model, optimizer, 60)
    assert losses[-1] < 0.01
    assert optimizer.param_groups[0]["damping"] < 0.5


def test_a_schedule_sets_the_damping_of_each_step_and_resumes() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", damping=lambda step: 1 / (1 + step))
    seen = []
    for _ in range(3):
        fit(model, optimizer, 1)
        seen.append(optimizer.last_step.damping)
    assert seen == [1, 1 / 2, 1 / 3]
    resumed = KFAC(model, likelihood="categorical", damping=lambda step: 1 / (1 + step))
    resumed.load_state_dict(optimizer.state_dict())
    optimizer.remove_hooks()
    fit(model, resumed, 1)
    assert resumed.last_step.damping == 1 / 4


@pytest.mark.parametrize("options", [{}, {"damping": lambda step: 0.01}])
def test_recovery_takes_the_step_back_and_damps_more(options: dict[str, Any]) -> None:
    model = network()
    optimizer = KFAC(model, **DAMPED, likelihood="categorical", recover=True, **options)
    fit(model, optimizer, 2)
    before = [p.detach().clone() for p in model.parameters()]
    fit(model, optimizer, 1)
    assert not optimizer.last_step.rejected
    functional.cross_entropy(model(X), LABELS).backward()
    model[0].weight.grad[0, 0] = math.nan
    optimizer.step()
    assert optimizer.last_step.rejected
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, parameter)
    losses = fit(model, optimizer, 10)
    assert optimizer.last_step.damping == pytest.approx(0.04)
    assert losses[-1] < losses[0]


def test_recovery_gives_up_after_many_setbacks() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", recover=True)
    fit(model, optimizer, 1)
    with pytest.raises(DivergedError, match="20 steps in a row were not finite"):
        for _ in range(100):
            optimizer.step(lambda: math.nan)
    fit(model, optimizer, 2)


def test_recovery_before_the_first_step_keeps_loaded_weights() -> None:
    model = network()
    optimizer = KFAC(model, likelihood="categorical", recover=True)
    loaded = network(seed=1)
    model.load_state_dict(loaded.state_dict())
    optimizer.step(lambda: math.nan)
    for p, q in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_run_that_diverges_recovers_by_itself() -> None:
    model = network()
    optimizer = KFAC(
        model, **DAMPED, likelihood="normal", fisher="type2", lr=1e160, damping=1e-3, recover=True,
        momentum=0.0,
    )  # fmt: skip
    y = normal(12, 3, seed=2)
    rejected, losses = 0, []
    for step in range(12):
        optimizer.zero_grad()
        loss = squared_error(model, y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        rejected += optimizer.last_step.rejected
        if step == 0:
            optimizer.param_groups[0]["lr"] = 0.1
    assert rejected >= 1
    assert math.isfinite(losses[-1])
    assert losses[-1] < losses[0]


def test_decoupled_weight_decay_shrinks_the_weights_beside_the_step() -> None:
    plain, decayed = network(), network()
    for model, decay in ((plain, 0.0), (decayed, 0.5)):
        optimizer = KFAC(
            model, **DAMPED, likelihood="categorical", lr=0.1, momentum=0.0, weight_decay=decay,
            decoupled_weight_decay=True,
        )  # fmt: skip
        fit(model, optimizer, 1)
    for p, q, start in zip(
        plain.parameters(), decayed.parameters(), network().parameters(), strict=True
    ):
        assert_close(q, p - 0.1 * 0.5 * start, atol=1e-12, rtol=1e-10)


def test_groups_have_their_own_settings() -> None:
    model = nn.Sequential(network(), nn.Tanh(), nn.Linear(3, 3)).double()
    optimizer = KFAC(
        model, **DAMPED, likelihood="categorical", lr=0.1, momentum=0.0, weight_decay=0.1,
        groups=[
            {"modules": ["2"], "lr": 1e-300},
            {"modules": ["0.2"], "damping": 1e9, "weight_decay": 0.0, "momentum": 0.5},
        ],
    )  # fmt: skip
    assert [len(g["params"]) for g in optimizer.param_groups] == [4, 2, 2]
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 1e-300, 0.1]
    before = [p.detach().clone() for p in model.parameters()]
    functional.cross_entropy(model(X), LABELS).backward()
    optimizer.step()
    moved = [(p - q).abs().max().item() for p, q in zip(model.parameters(), before, strict=True)]
    assert min(moved[:2] + moved[4:6]) > 1e-4
    assert max(moved[2:4]) < 1e-6  # damped away
    assert max(moved[6:]) < 1e-200  # no learning rate
    assert optimizer.state_dict()["param_groups"][1]["lr"] == 1e-300


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"lr": 0.1}, r"groups\[0\] must have modules"),
        ({"modules": ["0"], "kl_clip": 1.0}, "only lr, damping, momentum, weight_decay besides"),
        ({"modules": ["0"], "lr": -1.0}, "lr must be >= 0, got -1.0"),
        ({"modules": ["9"]}, r"must name modules that K-FAC covers, got '9'; they are 0, 2, 4"),
    ],
)
def test_bad_groups_are_refused(group: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        KFAC(network(), likelihood="categorical", groups=[group])


def test_a_layer_in_two_groups_is_refused() -> None:
    groups = [{"modules": ["0"]}, {"modules": ["0", "2"]}]
    with pytest.raises(InvalidInputError, match=r"in one group, got it in groups\[0\] and groups"):
        KFAC(network(), likelihood="categorical", groups=groups)


def test_the_report_of_a_plain_step() -> None:
    model = network()
    optimizer = KFAC(
        model, second_moment="fisher", likelihood="categorical", lr=0.1, momentum=0.0, kl_clip=1e-4
    )
    before = [p.detach().clone() for p in model.parameters()]
    fit(model, optimizer, 1)
    report = optimizer.last_step
    dot = sum(
        ((q - p) * p.grad).sum().item() for p, q in zip(model.parameters(), before, strict=True)
    )
    assert dot == pytest.approx(0.1 * report.clip * report.slope, rel=1e-10)
    assert report.kl == pytest.approx(0.5e-4)
    assert report.clip < 1
    assert (report.damping, report.lr, report.ratio, report.rejected) == (0.01, 0.1, None, False)


def test_a_situation_is_gone_back_to() -> None:
    model = nn.Sequential(nn.Dropout(0.5))
    torch.manual_seed(0)
    before = situation(model)
    first = model(torch.ones(20))
    kept = torch.get_rng_state()
    with before.again([]):
        assert torch.equal(model(torch.ones(20)), first)
    assert torch.equal(torch.get_rng_state(), kept)
