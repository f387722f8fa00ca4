import math

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fisherbo
from fisherbo.errors import InvalidInputError, StorageError
from fisherbo.sampler.trials import FAILED
from fisherbo.training import KFAC, NaturalGradient
from fisherbo.tuning import TunableOptimizer, result_of, tune_training
from fisherbo.tuning.batches import as_source, mean_loss
from fisherbo.tuning.losses import squared_error
from fisherbo.tuning.objective import Fold
from fisherbo.tuning.record import failure, read
from fisherbo.tuning.search_spaces import ADAM_SPACE
from fisherbo.tuning.study import _claiming, _SurplusError


def states(study):
    return [trial.state for trial in study.trials]


@pytest.mark.parametrize("sampler", ["fisher", "gp", "tpe", "random"])
def test_every_sampler_by_name(quick, sampler):
    result = tune_training(**{**quick, "sampler": sampler}, n_trials=4)
    assert result.counts.complete == 4
    assert result.best_value == min(trial.value for trial in result.study.trials)


def test_trials_are_reproducible(quick):
    first, second = (tune_training(**quick, n_trials=3, seed=4) for _ in range(2))
    assert [t.params for t in first.study.trials] == [t.params for t in second.study.trials]
    assert [t.value for t in first.study.trials] == [t.value for t in second.study.trials]


def test_custom_module_loss_and_dataloader(line):
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    def huber(output, y):
        return nn.functional.huber_loss(output, y)

    loader = DataLoader(TensorDataset(*line), batch_size=8, shuffle=True)
    result = tune_training(
        Tower, loader, loss=huber, likelihood="normal", n_trials=3, max_steps=8, sampler="random",
        validation=TensorDataset(*line),
    )  # fmt: skip
    assert (result.optimizer, result.metric) == ("kfac", "validation loss")
    assert result.config["loss"] == "huber"
    assert set(result.best_params) == {"likelihood", "lr", "damping", "momentum", "weight_decay"}
    assert len(result.trace) == 9


def test_target_values_and_attributes(quick):
    result = tune_training(**{**quick, "max_steps": 300}, target=1.0, n_trials=6)
    reached = [t for t in result.study.trials if t.user_attrs["steps_to_target"] is not None]
    assert reached
    assert result.counts.reached == len(reached)
    for trial in reached:
        assert trial.value == math.log10(max(1, trial.user_attrs["steps_to_target"]))
    assert result.steps_to_target == min(t.user_attrs["steps_to_target"] for t in reached)
    assert result.run == read(result.best_trial)


def test_own_optimizer(quick):
    sgd = TunableOptimizer(
        name="plain",
        space={"lr": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True)},
        build=lambda model, parameters, setting: torch.optim.SGD(model.parameters(), **parameters),
        max_steps=5,
    )
    result = tune_training(**{**quick, "optimizer": sgd}, n_trials=2)
    assert result.optimizer == "plain"


def test_resume_counts_the_trials_that_are_there(quick, tmp_path):
    quick["max_steps"] = 2
    storage = str(tmp_path / "tune.db")
    assert len(tune_training(**quick, storage=storage, n_trials=8).study.trials) == 8
    assert len(tune_training(**quick, storage=storage, n_trials=12).study.trials) == 12
    done = tune_training(**quick, storage=storage, n_trials=12)
    assert len(done.study.trials) == 12


def test_resumed_study_equals_an_uninterrupted_one(quick, tmp_path):
    quick |= {"max_steps": 2, "sampler": "fisher"}
    storage = str(tmp_path / "tune.db")
    tune_training(**quick, storage=storage, n_trials=11)
    resumed = tune_training(**quick, storage=storage, n_trials=13)
    whole = tune_training(**quick, n_trials=13)
    assert [t.params for t in resumed.study.trials] == [t.params for t in whole.study.trials]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": 11}, "max_steps was 10, is 11"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"target": 0.5}, "target was None, is 0.5"),
        ({"data": (torch.zeros(32, 3), torch.zeros(32, 1))}, "rows was '"),
        ({"build_model": lambda: nn.Linear(3, 1, bias=False)}, "parameters was 4, is 3"),
        ({"optimizer": "sgd", "study_name": "tune-adam"}, "optimizer was 'adam', is 'sgd'"),
    ],
)
def test_another_configuration_is_refused_and_changes_nothing(quick, tmp_path, change, message):
    storage = str(tmp_path / "tune.db")
    tune_training(**quick, storage=storage, n_trials=1)
    with pytest.raises(InvalidInputError, match=message):
        tune_training(**{**quick, **change}, storage=storage, n_trials=3)
    study = optuna.load_study(study_name="tune-adam", storage=f"sqlite:///{storage}")
    assert len(study.trials) == 1


def test_foreign_study_is_refused(quick):
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="tune-adam", storage=storage)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(InvalidInputError, match="was not made by fisherbo tune"):
        tune_training(**quick, storage=storage)
    with pytest.raises(InvalidInputError, match="was not made by tune_training"):
        result_of(study)


def test_loss_that_is_not_finite_is_a_failed_trial_and_the_study_goes_on(quick):
    calls = []

    def explosive(output, y):
        calls.append(1)
        value = (output - y).square().mean()
        return value * math.nan if len(calls) == 5 else value

    result = tune_training(**{**quick, "loss": explosive}, n_trials=4)
    assert states(result.study) == [TrialState.FAIL, *[TrialState.COMPLETE] * 3]
    assert "nan after 4 steps" in failure(result.study.trials[0])
    assert (result.counts.failed, result.counts.done) == (1, 4)
    assert len(read(result.study.trials[0]).trace) == 4


def test_interrupt_keeps_what_was_done_and_the_trial_is_run_again(quick, tmp_path):
    quick |= {"sampler": "fisher"}
    storage, calls = str(tmp_path / "tune.db"), []

    def interrupted(output, y):
        calls.append(1)
        if len(calls) == 27:  # in the third trial of eleven evaluations
            raise KeyboardInterrupt
        return (output - y).square().mean()

    with pytest.raises(KeyboardInterrupt):
        tune_training(**{**quick, "loss": interrupted}, storage=storage, n_trials=4)
    study = optuna.load_study(study_name="tune-adam", storage=f"sqlite:///{storage}")
    assert states(study) == [TrialState.COMPLETE] * 2 + [TrialState.FAIL]
    assert FAILED not in study.trials[2].system_attrs  # it taught the sampler nothing
    result = tune_training(**{**quick, "loss": interrupted}, storage=storage, n_trials=4)
    assert (result.counts.done, result.counts.failed) == (4, 0)


def test_interrupt_before_the_objective_leaves_no_running_trial(quick):
    class Interrupted(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            if trial.number == 1:
                raise KeyboardInterrupt

    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(KeyboardInterrupt):
        tune_training(**{**quick, "sampler": Interrupted()}, storage=storage, n_trials=3)
    study = optuna.load_study(study_name="tune-adam", storage=storage)
    assert states(study) == [TrialState.COMPLETE, TrialState.FAIL]
    resumed = tune_training(**{**quick, "sampler": "fisher"}, storage=storage, n_trials=12)
    assert (resumed.counts.done, len(resumed.study.trials)) == (12, 13)


@pytest.mark.parametrize("optimizer", ["kfac", "ekfac", "natural"])
def test_natural_gradients_leave_damping_kl_and_slope_in_the_trial(quick, optimizer):
    result = tune_training(**{**quick, "optimizer": optimizer}, n_trials=1)
    stored = result.study.trials[0].user_attrs
    assert len(stored["trace_damping"]) == len(stored["trace_step"]) == 11
    assert stored["trace_damping"][0] is stored["trace_slope"][0] is None  # no step yet
    for name in ("damping", "kl", "slope"):
        assert stored[name] == stored[f"trace_{name}"][-1] > 0
    assert stored["ratio"] is None
    assert stored["damping"] == pytest.approx(_damping(result.best_params), rel=1e-5)


def _damping(parameters):
    if "damping" in parameters:
        return parameters["damping"]
    return parameters["damping_per_lr"] * parameters["lr"]


def test_adaptive_damping_leaves_its_ratio_in_the_trial(quick):
    def build(model, parameters, setting):
        return KFAC(
            model, likelihood="normal", adaptive_damping=True, adaptation_interval=2, momentum=0.0,
            **parameters,
        )  # fmt: skip

    space = {"lr": optuna.distributions.FloatDistribution(0.1, 0.2)}
    adaptive = TunableOptimizer("adaptive", space, build, max_steps=10)
    result = tune_training(**{**quick, "optimizer": adaptive}, n_trials=1)
    stored = result.study.trials[0].user_attrs
    assert [ratio is None for ratio in stored["trace_ratio"]] == [True, *[True, False] * 5]
    assert stored["trace_damping"][-1] < stored["trace_damping"][1]
    assert stored["ratio"] == stored["trace_ratio"][-1]


def test_other_optimizers_leave_none(quick):
    stored = tune_training(**quick, n_trials=1).study.trials[0].user_attrs
    assert not {"damping", "kl", "slope", "ratio"} & stored.keys()


def test_pruned_trials_keep_their_trace(quick):
    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number > 0 and trial.last_step >= 4

    result = tune_training(**quick, n_trials=3, pruner=Always())
    assert (result.counts.complete, result.counts.pruned) == (1, 2)
    run = read(result.study.trials[1])
    assert (run.steps, run.stopped, len(run.trace)) == (4, "pruned", 5)


def test_surplus_trial_of_another_worker_is_given_up(quick):
    storage = optuna.storages.InMemoryStorage()
    tune_training(**quick, storage=storage, n_trials=1)

    study = optuna.load_study(study_name="tune-adam", storage=storage)
    run = _claiming(study, lambda trial: 0.0, 2)
    first, second = study.ask(), study.ask()
    assert run(first) == 0.0
    with pytest.raises(_SurplusError):
        run(second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"optimizer": "adm"},
            r"unknown optimizer 'adm' \(did you mean 'adam'\?\); known are kfac, adam, sgd",
        ),
        ({"sampler": "fischer"}, "unknown sampler 'fischer' .did you mean 'fisher'"),
        ({"loss": "mse"}, "unknown loss 'mse'"),
        ({"likelihood": "gauss"}, "unknown likelihood 'gauss'"),
        ({"n_trials": 0}, "n_trials must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"max_steps": -3}, "max_steps must be at least 1"),
        ({"max_seconds": 0.0}, "max_seconds must be > 0"),
        ({"target": 0.0}, "target must be > 0, got 0.0"),
        ({"schedule": "cosine"}, "schedule must be one of constant, linear, got 'cosine'"),
        ({"timeout": 0.0}, "timeout must be > 0 seconds, got 0.0"),
        ({"optimizer": "kfac", "loss": lambda output, y: output.sum()}, "needs the likelihood"),
        ({"optimizer": "kfac", "build_model": nn.PReLU}, "must have a module that K-FAC can cover"),
    ],
)
def test_wrong_arguments(quick, change, message):
    with pytest.raises(InvalidInputError, match=message):
        tune_training(**{**quick, **change})


def test_error_of_the_model_is_raised_and_the_trial_failed(quick):
    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        tune_training(**{**quick, "build_model": lambda: nn.Linear(4, 1)}, storage=storage)
    study = optuna.load_study(study_name="tune-adam", storage=storage)
    assert states(study) == [TrialState.FAIL]


def test_storage_that_stops_answering(quick, tmp_path, monkeypatch):
    from sqlalchemy.exc import OperationalError

    def gone(*args, **kwargs):
        raise OperationalError("select", {}, Exception("server closed the connection"))

    storage = optuna.storages.InMemoryStorage()
    monkeypatch.setattr(storage, "create_new_trial", gone)
    with pytest.raises(StorageError, match="server closed the connection; check the URL"):
        tune_training(**quick, storage=storage)


@pytest.mark.parametrize("optimizer", ["kfac", "ekfac", "natural", "adam", "sgd"])
def test_best_params_are_the_arguments_of_the_optimizers_own_class(quick, line, optimizer):
    result = tune_training(**{**quick, "optimizer": optimizer}, n_trials=2)
    names = {"KFAC": KFAC, "NaturalGradient": NaturalGradient}
    model = nn.Linear(3, 1)
    made = eval(result.best_call, {"torch": torch, "model": model, "fisherbo": fisherbo})
    same = result.make_optimizer(model)
    assert type(made) is type(same)
    for key, value in result.best_params.items():
        if key not in ("likelihood", "eigen_correction"):
            assert same.param_groups[0][key] == value
            assert made.param_groups[0][key] == pytest.approx(value, rel=1e-3)
    if optimizer in ("adam", "sgd"):
        getattr(torch.optim, {"adam": "Adam", "sgd": "SGD"}[optimizer])(
            model.parameters(), **result.best_params
        )
    else:
        names["NaturalGradient" if optimizer == "natural" else "KFAC"](model, **result.best_params)


def test_best_model_is_the_best_trials_to_the_bit(quick, line):
    result = tune_training(**{**quick, "max_steps": 30}, n_trials=4)
    model = result.best_model()
    assert not model.training
    x, y = line
    loss = 0.5 * (model(x) - y).square().sum().item() / len(y)
    assert loss == pytest.approx(result.trace[-1].loss, rel=1e-6)


def test_best_model_of_a_run_that_ended_at_its_target(quick, line):
    result = tune_training(**{**quick, "max_steps": 300}, target=1.0, n_trials=4)
    x, y = line
    loss = 0.5 * (result.best_model()(x) - y).square().sum().item() / len(y)
    assert loss == pytest.approx(result.trace[-1].loss, rel=1e-6)
    assert loss <= 1.0


def test_a_study_that_is_only_read_has_its_optimizer_but_no_model(quick, tmp_path):
    made = tune_training(**quick, storage=str(tmp_path / "tune.db"), n_trials=2)
    read_only = result_of(made.study)
    assert read_only.best_params == made.best_params
    group = read_only.make_optimizer(nn.Linear(3, 1)).param_groups[0]
    assert group["betas"] == made.best_params["betas"]
    with pytest.raises(InvalidInputError, match="best_model needs the data and the model"):
        read_only.best_model()


def test_without_a_complete_trial_there_is_no_model(quick):
    def nan(output, y):
        return output.sum() * math.nan

    result = tune_training(**{**quick, "loss": nan}, n_trials=1)
    assert result.best_params == {}
    with pytest.raises(InvalidInputError, match="has no complete trial"):
        result.best_model()
    with pytest.raises(InvalidInputError, match="has no complete trial"):
        result.make_optimizer(nn.Linear(3, 1))
    (entry,) = result.history
    assert (entry["state"], entry["value"]) == ("FAIL", None)
    assert "nan" in entry["failure"]


def test_history_is_one_record_a_trial_in_the_optimizers_words(quick):
    result = tune_training(**quick, n_trials=3)
    assert [entry["number"] for entry in result.history] == [0, 1, 2]
    best = min(result.history, key=lambda entry: entry["value"])
    assert {key: best[key] for key in result.best_params} == result.best_params
    assert best["loss"] == best["value"] == result.best_value


def test_the_value_is_the_loss_at_the_end_not_the_least(quick, line):
    losses = iter([4.0, 1.0, 0.1, 2.0, 2.0, 2.0])

    result = tune_training(
        **{**quick, "max_steps": 5}, n_trials=1, measure=lambda model: next(losses)
    )
    assert result.best_value == 2.0
    assert (result.best_loss, result.final_loss, result.metric) == (0.1, 2.0, "measure")


def test_the_value_is_the_mean_over_folds(quick, line):
    x, y = line
    fold = Fold(quick["build_model"], as_source((x, y), batch_size=None, seed=0), lambda _: 8.0)
    result = tune_training(**quick, n_trials=1, measure=lambda _: 2.0, folds=[fold, fold])
    assert result.best_value == result.final_loss == 6.0
    assert {point.loss for point in result.trace} == {2.0}


def test_a_fold_trains_as_the_data_do(quick, line):
    (x, y), (x2, y2) = line, (line[0][:20], line[1][:20])
    source = as_source((x, y), batch_size=None, seed=0)
    fold = Fold(quick["build_model"], source, mean_loss([(x2, y2)], squared_error))
    result = tune_training(**quick, n_trials=1, folds=[fold])
    both = tune_training(**quick, n_trials=1)
    with torch.no_grad():
        of_fold = squared_error(both.best_model()(x2), y2).item()
    assert result.best_value == pytest.approx((both.best_value + of_fold) / 2, rel=1e-6)


def test_a_run_that_explodes_has_diverged_whatever_its_least_loss(quick):
    def exploding(model, calls=[]):  # noqa: B006
        calls.append(1)
        return [1.0, 1e-9, 11.5][min(len(calls) - 1, 2)]

    result = tune_training(**quick, n_trials=1, measure=exploding)
    (trial,) = result.study.trials
    assert trial.state == TrialState.FAIL
    assert "exploded: the loss was 1 at first and is 11.5 after 2 steps" in failure(trial)
    assert result.best_trial is None


def test_learning_rate_falls_linearly_to_zero(quick):
    rates = []

    def build(model, parameters, setting):
        optimizer = torch.optim.SGD(model.parameters(), **parameters)
        optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
        return optimizer

    space = {"lr": optuna.distributions.FloatDistribution(1e-3, 1e-2)}
    plain = TunableOptimizer("plain", space, build, max_steps=4)
    result = tune_training(
        **{**quick, "optimizer": plain, "max_steps": 4}, n_trials=1, schedule="linear"
    )
    lr = result.best_params["lr"]
    assert rates == pytest.approx([lr, 0.75 * lr, 0.5 * lr, 0.25 * lr])


def test_no_trial_is_begun_after_the_timeout(quick, monkeypatch):
    from fisherbo.tuning import study

    clock = iter([0.0, 1.0, 5.0, 11.0])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(clock))
    result = tune_training(**quick, n_trials=30, timeout=10.0)
    assert result.counts.done == 2


def test_a_known_point_is_tried_first(quick, tmp_path):
    from dataclasses import replace

    start = {"lr": 0.01, "one_minus_beta1": 0.2, "eps": 1e-8}
    quick |= {"optimizer": replace(ADAM_SPACE, start=start), "storage": str(tmp_path / "tune.db")}
    result = tune_training(**quick, n_trials=2)
    assert result.study.trials[0].params == pytest.approx(start)
    assert len(tune_training(**quick, n_trials=3).study.trials) == 3


def test_space_of_adam_is_searched_inside_its_bounds(quick):
    result = tune_training(**quick, n_trials=5)
    for trial in result.study.trials:
        assert trial.distributions == dict(ADAM_SPACE.space)
