import ctypes
import functools
import importlib
import operator
import os
import subprocess
import sys
import threading

import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest
import torch
from joblib import Memory
from scipy import sparse, stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from fisherbo.estimators.digest import digest


def read(value):
    found, unread = digest(value)
    assert unread == []
    return found


def run(source, **scope):
    """The name `f` that a script defines."""
    scope = {"__name__": "script", **scope}
    exec(compile(source, "<script>", "exec"), scope)
    return scope["f"]


EVERYTHING = """
import dataclasses, enum, functools, logging, operator, re
import numpy as np, optuna, pandas as pd, polars as pl, torch
from scipy import sparse, stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from fisherbo.estimators.digest import digest

WORDS = {"some", "words", "in", "a", "set"}
log = logging.getLogger("log")

def helper(x):
    return [word for word in WORDS if word in {"some", "other", "words"}] + [x]

@functools.lru_cache
def scorer(estimator, X, y):
    log.info("scoring")
    return float(np.mean(helper(estimator.predict(X))))

class Mine(ClassifierMixin, BaseEstimator):
    def __init__(self, level=1):
        self.level = level
    def fit(self, X, y):
        return super().fit(X, y)
    @functools.cached_property
    def cached(self):
        return WORDS

@dataclasses.dataclass
class Record:
    items: list = dataclasses.field(default_factory=list)

class Colour(enum.Enum):
    RED = 1

rng = np.random.RandomState(0)
X = rng.normal(size=(9, 3))
frame = {"n": [1, 2], "s": ["x", "y"]}
values = [
    scorer, Mine(), Mine().fit, Record(), Colour.RED, lambda x: helper(x), re.compile("a"),
    functools.partial(helper, 1), operator.itemgetter(1), np.log1p, np.mean, len, rng, X, X[::2].T,
    np.random.default_rng(0), np.array(["a", None], dtype=object), sparse.csr_array(X), WORDS,
    frozenset({"other", "words"}), {1: 2, "a": 3, None: 4},
    pd.DataFrame(frame).astype({"s": "category"}),
    pl.DataFrame(frame), stats.expon(scale=2), stats.rv_discrete(values=([1, 2], [0.5, 0.5]))(),
    stats.rv_histogram(np.histogram(X)), optuna.distributions.FloatDistribution(0, 1),
    KFold(3, shuffle=True, random_state=rng), make_scorer(helper), get_scorer("roc_auc"),
    make_pipeline(FunctionTransformer(lambda x: x), SVC()), torch.ones(3), torch.nn.Linear,
    NotImplemented, print,
]
for value in values:
    print(*digest(value))
"""


def test_digests_are_the_same_in_every_process(tmp_path, capsys):
    run(EVERYTHING + "f = None")
    here = capsys.readouterr().out.splitlines()
    script = tmp_path / "script.py"
    script.write_text("# moved down by a line\n" + EVERYTHING)
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    command = [sys.executable, script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == here
    assert all(line.endswith(" []") for line in here)  # everything was read
    assert len(set(here)) == len(here) > 30


PLAIN = "def f(x): return x + 1"


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return x + 2",
        "def f(x): return x - 1",
        "def f(x, y=1): return x + 1",
        "def f(x, *, y=1): return x + 1",
        "f = lambda x: x + 2",
        "def f(x): return abs(x + 1)",
        "def f(x): return (lambda z: z + 2)(x)",
        "def f(x): return x + 1\nf.greater_is_better = False",
        "import functools\nf = functools.partial(lambda x, y: x + y, y=1)",
    ],
)
def test_a_function_is_its_code(source):
    assert read(run(source)) != read(run(PLAIN))
    assert read(run(source)) == read(run(source))


@pytest.mark.parametrize(
    "source",
    ["def g(x): return x + 1\nf = g", "# a comment\n\ndef f(x):\n    return x + 1  # another"],
)
def test_where_a_function_stands_and_what_it_is_called_do_not_count(source):
    assert read(run(source)) == read(run(PLAIN))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, a={}): return x",
        "def make(a):\n    def f(x): return x + a\n    return f\nf = make({})",
        "a = {}\ndef f(x): return x + a",
        "a = {}\ndef g(): return a\ndef f(x): return x + g()",
        "a = {}\ndef f(x): return [x + a for _ in (0,)]",
        "def g(): return {}\ndef f(x): return x + g()",
        "import functools\n@functools.lru_cache\ndef f(x): return x + {}",
        "import functools\nf = functools.partial(lambda x, a: x, a={})",
        "import operator\nf = operator.itemgetter({})",
        "class A:\n    def g(self): return {}\nf = A().g",
        "class A:\n    a = {}\nf = A()",
        "a = dict.fromkeys([1, 2][::3 - 2 * {}])\ndef f(x): return next(iter(a))",
        "class A:\n    @property\n    def g(self): return {}\nf = A()",
        "class A:\n    @classmethod\n    def g(cls): return {}\nf = A.g",
        "class B:\n    def g(self): return {}\nclass A(B): pass\nf = A()",
        "class A:\n    def __init__(self, a): self.a = a\n    def g(self): return self.a\n"
        "f = A({}).g",
        "import numpy as np\nf = np.vectorize(lambda x: x + {})",
    ],
)
def test_what_a_function_or_class_draws_on_counts(source):
    one, other = (read(run(source.replace("{}", str(a)))) for a in (1, 2))
    assert one != other
    assert read(run(source.replace("{}", "1"))) == one


def test_globals_that_a_function_does_not_use_do_not_count():
    source = "def f(x): return x.shape"
    assert read(run(source, shape=1, lock=threading.Lock())) == read(run(source, shape=2))


@pytest.mark.parametrize(
    "source",
    [
        "import helpers\ndef f(x): return helpers.score(x)",
        "from helpers import score\ndef f(x): return score(x)",
        "def f(x):\n    import helpers\n    return helpers.score(x)",
        "import helpers\ndef f(x, h=helpers): return h.score(x)",
    ],
)
def test_code_in_other_modules_of_the_user_counts(source, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def after(text):
        monkeypatch.delitem(sys.modules, "helpers", raising=False)
        (tmp_path / "helpers.py").write_text(text)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return read(run(source))

    first = after("a = 1\ndef score(x): return x + a")
    assert after("# moved\na = 1\ndef score(x): return x + a") == first
    assert after("a = 12\ndef score(x): return x + a") != first
    assert after("a = 1\ndef score(x): return x - a") != first


def test_functions_that_use_each_other_and_themselves_are_read():
    source = "def g(x): return f(x - {}) if x else 0\ndef f(x): return g(x) + f(x)"
    assert read(run(source.replace("{}", "1"))) == read(run(source.replace("{}", "1")))
    assert read(run(source.replace("{}", "1"))) != read(run(source.replace("{}", "2")))
    one, other = [1], [1]
    one.append(one)
    other.append(other)
    assert read(one) == read(other) != read([1, [1]])


def test_installed_code_is_its_name_and_the_version_of_its_package(monkeypatch):
    from fisherbo.estimators import code

    first = read(make_scorer(f1_score, average="macro"))
    assert read(make_scorer(f1_score, average="macro")) == first
    assert read(make_scorer(f1_score, average="micro")) != first
    monkeypatch.setattr("sklearn.__version__", "0.0")
    code._edition.cache_clear()
    try:
        assert read(f1_score) != first
        assert read(make_scorer(f1_score, average="macro")) != first
    finally:
        code._edition.cache_clear()


@pytest.mark.parametrize("change", ["version", "text", "nothing"])
def test_a_package_that_is_installed_anew_counts_if_it_changed(tmp_path, monkeypatch, change):
    from fisherbo.estimators import code

    package = tmp_path / "site-packages" / "scores"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def install(version, level):
        text = f"__version__ = '{version}'\ndef score(estimator, X, y): return {level}"
        (package / "__init__.py").write_text(text)
        monkeypatch.delitem(sys.modules, "scores", raising=False)
        importlib.invalidate_caches()
        code._edition.cache_clear()
        score = run("from scores import score as f")
        assert code.installed(score) is not None
        return read(score)

    first = install("1", 1)
    second = install("2" if change == "version" else "1", 2 if change == "text" else 1)
    assert (first == second) == (change == "nothing")


def test_generic_and_abstract_classes_and_those_of_slots_are_read():
    source = (
        "import abc, typing\nT = typing.TypeVar('T')\n"
        "class A(abc.ABC, typing.Generic[T]):\n"
        "    __slots__ = ('a',)\n"
        "    @abc.abstractmethod\n    def g(self): ...\n"
        "class B(A[int]):\n    def g(self): return {}\n"
        "f = B()\nf.a = 3"
    )
    one, other = (read(run(source.replace("{}", str(a)))) for a in (1, 2))
    assert one != other
    assert read(run(source.replace("f.a = 3", "f.a = 4").replace("{}", "1"))) != one


LONG = np.arange(5000)
FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
CHANGED = [
    ([1, 2], [2, 1]),
    (["a", "b"], ["b", "a"]),
    ([(1,), (2,)], [(50,), (100,)]),
    ([1, 2], [1.0, 2.0]),
    ([True], [1]),
    ([[1], 2], [[1, 2]]),
    ({"a": 1}, {"a": 2}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (LONG, np.where(LONG == 2500, 0, LONG)),
    (LONG, LONG.astype(np.float64)),
    (LONG, LONG.reshape(2, -1)),
    (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
    (np.array(["ab", "c"]), np.array(["a", "bc"])),
    (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1, 2], [1, 0])),
    (FRAME, FRAME.rename(columns={"a": "c"})),
    (FRAME, FRAME.astype({"a": "int8"})),
    (FRAME["b"].astype("category"), FRAME["b"].astype(pd.CategoricalDtype(["y", "x"]))),
    (pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 3]})),
    (sparse.csr_array(np.eye(3)), sparse.csr_array(2 * np.eye(3))),
    (sparse.csr_array(np.eye(3)), sparse.csc_array(np.eye(3))),
    (torch.ones(2), torch.zeros(2)),
    (torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)),
    (torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)),  # of other weights
    (stats.expon(scale=1), stats.expon(scale=2)),
    (stats.norm([0, 1]), stats.norm([0, 2])),
    (stats.rv_histogram(([1, 2], [0, 1, 2])), stats.rv_histogram(([2, 1], [0, 1, 2]))),
    (
        stats.rv_discrete(values=([1, 2], [0.5, 0.5])),
        stats.rv_discrete(values=([1, 3], [0.5, 0.5])),
    ),
    (
        optuna.distributions.IntDistribution(1, 9),
        optuna.distributions.IntDistribution(1, 9, log=True),
    ),
    (SVC(C=1), SVC(C=2)),
    (SVC(), LogisticRegression()),
    (Pipeline([("c", SVC())]), Pipeline([("c", SVC(C=2))])),
    (
        RandomForestClassifier(random_state=np.random.RandomState(0)),
        RandomForestClassifier(random_state=np.random.RandomState(1)),
    ),
    (KFold(3, shuffle=True, random_state=0), KFold(3, shuffle=True, random_state=1)),
    (StandardScaler(), StandardScaler().set_output(transform="pandas")),
    (SVC(), SVC().fit([[0], [1]], [0, 1])),
    (operator.itemgetter(1), operator.itemgetter(2)),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (np.log, np.log1p),
]


@pytest.mark.parametrize(("one", "other"), CHANGED, ids=range(len(CHANGED)))
def test_values_that_differ_have_other_digests(one, other):
    assert read(one) != read(other)
    assert read([one, other]) == read([one, other])


SQUARE = np.arange(12.0).reshape(4, 3)
EQUAL = [
    ({"a", 1, None}, {None, 1, "a"}),
    (SQUARE, np.asfortranarray(SQUARE)),
    (SQUARE[::2], SQUARE[::2].copy()),
    ([SQUARE, SQUARE], [SQUARE, SQUARE.copy()]),
    (SVC(), SVC(verbose=True)),
    (RandomForestClassifier(), RandomForestClassifier(n_jobs=2)),
    (Pipeline([("c", SVC())]), Pipeline([("c", SVC())], memory=Memory("cache", verbose=0))),
    (FunctionTransformer(lambda x: x), FunctionTransformer(lambda x: x)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=range(len(EQUAL)))
def test_what_changes_no_result_changes_no_digest(one, other):
    assert read(one) == read(other)


def test_using_an_object_does_not_change_it(tmp_path):
    kept = np.memmap(tmp_path / "array", dtype=np.float64, mode="w+", shape=SQUARE.shape)
    kept[:] = SQUARE
    assert read(kept) == read(SQUARE)
    matrix, prior = sparse.csr_array(SQUARE), stats.expon(scale=2)
    before = read((matrix, prior))
    assert matrix.has_sorted_indices
    assert matrix.has_canonical_format
    prior.rvs()  # of the global random state
    assert read((matrix, prior)) == before


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (threading.Lock(), "_thread.lock"),
        (ctypes.CDLL(None).abs, "_FuncPtr"),
        ((i for i in ()), "builtins.generator"),
        (np.frompyfunc(lambda x: x, 1, 1), "numpy.ufunc"),
        ({"deep": [functools.partial(max, threading.Lock())]}, "_thread.lock"),
    ],
    ids=["lock", "pointer", "generator", "ufunc", "within"],
)
def test_what_cannot_be_read_is_told_of_and_equals_nothing(value, kind):
    (one, unread), (other, _) = digest(value), digest(value)
    assert one != other
    assert len(unread) == 1
    assert unread[0].endswith(kind)
