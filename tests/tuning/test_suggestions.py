"""Ready search spaces of models: every point is valid, and the defaults are the libraries'."""

import inspect
import subprocess
import sys
import warnings

import numpy as np
import optuna
import pytest
import sklearn.utils
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import fisherbo
from fisherbo.errors import InvalidInputError
from fisherbo.tuning.model_spaces import BY_NAME, SPACES

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPTIMIZERS = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD, "KFAC": fisherbo.KFAC}
ESTIMATORS = dict(sklearn.utils.all_estimators())
CLASSES = [name for space in SPACES for name in space.names if name[0].isupper()]
OF_SKLEARN = [name for name in CLASSES if BY_NAME[name].package == "sklearn"]
QUIET = {
    "xgboost": {"verbosity": 0},
    "lightgbm": {"verbose": -1},
    "catboost": {"verbose": 0, "allow_writing_files": False},
}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))
Y = X[:, 0] - X[:, 1] + 0.3 * RNG.normal(size=90)


def class_of(name):
    package = BY_NAME[name].package
    if package == "sklearn":
        return ESTIMATORS[name]
    return OPTIMIZERS.get(name) or getattr(pytest.importorskip(package), name)


def points(model, count, sampler=None, **options):
    """Trials with the arguments that were suggested to them."""
    study = optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=0))
    made = []
    for number in range(count):
        trial = study.ask()
        made.append((trial, fisherbo.suggest(trial, model, **options)))
        study.tell(trial, float(number))
    return made


def named(kind):
    """Parameters of the constructor and of those of all bases, with their defaults."""
    found = {}
    for base in reversed(kind.__mro__):
        if "__init__" in vars(base):
            found.update(inspect.signature(base.__init__).parameters)
    return {name: parameter.default for name, parameter in found.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_those_of_the_constructor(name):
    kind = class_of(name)
    extra = {"extra_trees"} if BY_NAME[name].package == "lightgbm" else set()  # by **kwargs
    known = set(named(kind)) | extra
    for _, arguments in points(name, 20):
        assert set(arguments) <= known


@pytest.mark.parametrize("name", CLASSES)
def test_a_default_that_is_not_the_librarys_has_a_note(name):
    known = named(class_of(name))
    for each, hyperparameter in BY_NAME[name].hyperparameters.items():
        if hyperparameter.default is not None:
            assert hyperparameter.distribution._contains(
                hyperparameter.distribution.to_internal_repr(hyperparameter.default)
            )
        if each in known and known[each] != hyperparameter.default:
            assert hyperparameter.note, each


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_the_default_point_makes_the_default_estimator(name):
    kind, point = ESTIMATORS[name], fisherbo.default_point(name)
    study = optuna.create_study()
    study.enqueue_trial(point)
    made = kind(**fisherbo.suggest(study.ask(), name)).get_params()
    differing = {k for k, default in kind().get_params().items() if made[k] != default}
    noted = {k for k, h in BY_NAME[name].hyperparameters.items() if h.note}
    assert differing <= noted


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_every_estimator_fits(name):
    for _, arguments in points(name, 8):
        if "max_iter" in named(ESTIMATORS[name]) and "max_iter" not in arguments:
            arguments["max_iter"] = 50
        model = ESTIMATORS[name](**arguments)
        y = Y > 0 if is_classifier(model) else Y
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            assert np.isfinite(model.fit(X, y).score(X, y))


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost"])
def test_every_booster_fits(name):
    package = pytest.importorskip(name)
    for word in BY_NAME[name].names[1:]:
        kind = getattr(package, word)
        quiet = {"n_estimators": 5, **QUIET[name]}
        for _, arguments in points(kind, 6, fixed=quiet):
            model = kind(**arguments)
            y = (Y > 0).astype(int) if is_classifier(model) else Y
            assert np.isfinite(model.fit(X, y).score(X, y))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_takes_a_step(name):
    inputs, targets = torch.tensor(X, dtype=torch.float32), torch.tensor(Y > 0).long()
    for _, arguments in points(name, 5):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        before = model.weight.detach().clone()
        optimizer = (
            fisherbo.KFAC(model, likelihood="categorical", **arguments)
            if name == "KFAC"
            else OPTIMIZERS[name](model.parameters(), **arguments)
        )
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        assert not torch.equal(before, model.weight)


def test_every_range_has_a_source():
    for space in SPACES:
        assert space.hyperparameters
        assert all(each.source for each in space.hyperparameters.values())


def test_conditions_hold_with_our_sampler():
    made = points("SVC", 25, fisherbo.FisherSampler(seed=0, n_startup_trials=5))
    kernels = {arguments["kernel"] for _, arguments in made}
    assert kernels == {"rbf", "poly", "linear"}
    for trial, arguments in made:
        more = {"rbf": {"gamma"}, "poly": {"gamma", "degree", "coef0"}, "linear": set()}
        assert set(arguments) == {"C", "kernel"} | more[arguments["kernel"]]
        assert trial.params == arguments


def test_a_class_and_an_instance_are_known_by_their_class():
    class Own(SVC):
        pass

    for model in (SVC, SVC(C=3), Own):
        assert fisherbo.default_point(model) == fisherbo.default_point("SVC")
    assert fisherbo.default_point(torch.optim.SGD) == fisherbo.default_point("torch-sgd")


def test_a_class_of_another_library_is_not_taken_for_the_known_one():
    with pytest.raises(InvalidInputError, match="no search space for 'Ridge'"):
        fisherbo.search_space(type("Ridge", (), {}))


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"did you mean 'xgboost'.*known are .*SVC"):
        fisherbo.search_space("xgbost")


def test_names_have_the_prefix_and_arguments_do_not():
    ((trial, arguments),) = points(MLPClassifier, 1, prefix="mlp.")
    assert set(trial.params) == {f"mlp.{name}" for name in BY_NAME["MLPClassifier"].hyperparameters}
    layers = trial.params["mlp.n_layers"] * (trial.params["mlp.width"],)
    assert arguments["hidden_layer_sizes"] == layers


def test_what_is_fixed_or_excluded_is_not_suggested():
    fixed = {"kernel": "poly", "random_state": 1}
    for trial, arguments in points("SVC", 4, fixed=fixed, exclude=["degree"]):
        assert set(trial.params) == {"C", "gamma", "coef0"}
        assert arguments == {**trial.params, **fixed}
    ((trial, arguments),) = points(MLPClassifier, 1, fixed={"hidden_layer_sizes": (9,)})
    assert arguments["hidden_layer_sizes"] == (9,)
    assert not {"n_layers", "width"} & set(trial.params)
    ((trial, arguments),) = points(MLPClassifier, 1, fixed={"width": 32}, exclude=["n_layers"])
    assert arguments["hidden_layer_sizes"] == (32,)
    ((_, arguments),) = points(MLPClassifier, 1, exclude=["hidden_layer_sizes"])
    assert "hidden_layer_sizes" not in arguments


def test_a_fixed_value_without_effect_is_left_out():
    fixed = {"bootstrap": False, "max_samples": 0.5}
    ((_, arguments),) = points("RandomForestRegressor", 1, fixed=fixed)
    assert "max_samples" not in arguments


def test_what_is_excluded_must_exist():
    with pytest.raises(InvalidInputError, match=r"'gama'.*did you mean 'gamma'"):
        points("SVC", 1, exclude=["gama"])


def test_distributions_are_what_is_suggested():
    found = fisherbo.search_space("lightgbm", prefix="a.", exclude=["extra_trees"])
    ((trial, _),) = points("lightgbm", 1, prefix="a.", exclude=["extra_trees"])
    assert found == trial.distributions
    assert found["a.learning_rate"] == FloatDistribution(5e-3, 0.1, log=True)


def test_distributions_of_a_space_with_conditions_need_the_parent():
    with pytest.raises(InvalidInputError, match="'gamma' exists only where 'kernel'"):
        fisherbo.search_space("SVC")
    assert set(fisherbo.search_space("SVC", fixed={"kernel": "linear"})) == {"C"}
    assert set(fisherbo.search_space("SVC", exclude=["kernel"])) == {"C", "gamma"}
    forest = fisherbo.search_space("ExtraTreesRegressor", exclude=["max_samples"])
    assert forest["bootstrap"] == CategoricalDistribution([True, False])


def test_no_library_is_imported_for_its_space():
    code = (
        "import sys, optuna, fisherbo\n"
        "trial = optuna.create_study().ask()\n"
        "for name in ('SVC', 'xgboost', 'catboost', 'lightgbm', 'torch-sgd', 'kfac'):\n"
        "    fisherbo.suggest(trial, name, prefix=name)\n"
        "assert not {'sklearn', 'torch', 'xgboost', 'catboost', 'lightgbm'} & set(sys.modules)\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
