import math

import optuna
import pytest
import torch
from torch import nn

from fisherbo.errors import InvalidInputError
from fisherbo.training import TracePoint
from fisherbo.tuning import record
from fisherbo.tuning.batches import as_source, mean_loss
from fisherbo.tuning.losses import squared_error
from fisherbo.tuning.objective import Budget, score, seeded
from fisherbo.tuning.search_spaces import OPTIMIZERS, Setting, as_optimizer


def run(best, reached=None, final=None):
    end = best if final is None else final
    return record.Run((), best, end, 100, 1.0, "steps", reached, None if reached is None else 0.5)


def test_score_is_continuous_where_the_target_is_reached_at_the_last_step():
    reached = score(run(3.0, reached=300), 3.0, 300)
    missed = score(run(3.0 + 1e-9), 3.0, 300)
    assert reached == pytest.approx(math.log10(300))
    assert missed == pytest.approx(reached, abs=1e-9)


def test_score_without_target_is_the_loss_at_the_end_and_with_one_orders_runs():
    assert score(run(0.7, final=0.9), None, 300) == 0.9
    values = [score(run(3, 50), 3, 300), score(run(3, 200), 3, 300), score(run(30), 3, 300)]
    assert values == sorted(values)
    assert values[2] == pytest.approx(math.log10(300) + 1)


def test_budget_rules():
    assert Budget(300, 30).report_every == 5
    assert Budget(10, 30).report_every == 1
    assert (Budget(300, 30).window, Budget(10, 30).window) == (6, 1)
    with pytest.raises(InvalidInputError, match="max_steps"):
        Budget(0, 1)
    with pytest.raises(InvalidInputError, match="max_seconds"):
        Budget(1, 0)


def test_thin_keeps_both_ends_and_attributes_stay_short():
    trace = [TracePoint(50 * k, 1 / (k + 3), 0.123456 * k) for k in range(5000)]
    thinned = record.thin(trace)
    assert (thinned[0], thinned[-1]) == (trace[0], trace[-1])
    study = optuna.create_study()
    trial = study.ask()
    record.write(trial, record.Run(tuple(trace), 0.1, 0.2, 250_000, 617.0, "steps"))
    study.tell(trial, 1.0)
    stored = study.trials[0].user_attrs
    assert max(len(str(value)) for value in stored.values()) < 2000
    read = record.read(study.trials[0])
    assert [point.step for point in read.trace] == [point.step for point in thinned]
    assert read.trace[7].loss == pytest.approx(thinned[7].loss, rel=1e-5)


def test_seeded_block_leaves_the_global_generator():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with seeded(0):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_is_built_at_the_middle_of_its_space(name):
    tunable = as_optimizer(name)
    model = nn.Linear(3, 2)
    optimizer = tunable.build(model, tunable.middle(), Setting("categorical", 1e-5, 0))
    x, y = torch.randn(8, 3), torch.randint(2, (8,))
    before = nn.functional.cross_entropy(model(x), y)
    before.backward()
    optimizer.step()
    assert nn.functional.cross_entropy(model(x), y) < before


def test_spaces_hold_the_known_good_settings_well_inside():
    space = OPTIMIZERS["kfac"].space
    for name, value in {"lr": 0.2, "damping": 0.01, "momentum": 0.8}.items():
        assert space[name].low < value < space[name].high


@pytest.mark.parametrize("name", ["ekfac", "kfac_full"])
def test_full_spaces_search_what_kfac_has_and_the_ratio_of_damping_to_lr(name):
    tunable = as_optimizer(name)
    point = {**tunable.middle(), "lr": 0.2, "damping_per_lr": 0.05, "kl_clip": 0.7}
    point["one_minus_factor_decay"] = 0.1
    optimizer = tunable.build(nn.Linear(3, 2), point, Setting("categorical", 1e-5, 0))
    group = optimizer.param_groups[0]
    assert group["damping"] == pytest.approx(0.01)
    assert (group["lr"], group["kl_clip"], group["momentum"]) == (0.2, 0.7, point["momentum"])
    assert group["factor_decay"] == pytest.approx(0.9)
    assert ("spectrum" in optimizer.state[group["params"][0]]) == (name == "ekfac")
    for key, value in {"lr": 0.2, "damping_per_lr": 0.05, "momentum": 0.8}.items():
        assert tunable.space[key].low < value < tunable.space[key].high


def test_shuffled_batches_are_the_same_for_every_run_and_hold_every_row():
    x = torch.arange(10.0)[:, None]
    source = as_source((x, x), batch_size=4, seed=0)
    first, second = source.fresh(), source.fresh()
    epochs = [torch.cat([batch for batch, _ in first]).flatten() for _ in range(2)]
    assert [len(batch) for batch, _ in second] == [4, 4, 2]
    assert sorted(epochs[0].tolist()) == list(range(10))
    assert not torch.equal(epochs[0], epochs[1])
    again = torch.cat([batch for batch, _ in source.fresh()]).flatten()
    assert torch.equal(again, epochs[0])


def test_mean_loss_weighs_rows_and_keeps_the_mode(line, build):
    x, y = line
    model = build().train()
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    expected = squared_error(model(x), y).item()
    assert mean_loss(batches, squared_error)(model) == pytest.approx(expected, rel=1e-5)
    assert model.training


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        ((torch.zeros(3, 1), torch.zeros(2)), None, "equally many rows"),
        ((torch.zeros(0, 1), torch.zeros(0)), None, "at least one"),
        ((torch.zeros(3, 1), torch.zeros(3)), 0, "batch_size must be at least 1"),
        ([(torch.zeros(3, 1), torch.zeros(3))], 2, "leave batch_size out"),
        (7, None, "gone through again, got int"),
        (iter([]), None, "gone through again"),
    ],
)
def test_data_that_cannot_be_used(data, batch_size, message):
    with pytest.raises(InvalidInputError, match=message):
        as_source(data, batch_size=batch_size, seed=0)
