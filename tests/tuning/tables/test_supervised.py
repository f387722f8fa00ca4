import numpy as np
import pandas as pd
import pytest

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.table import Table
from fisherbo.tuning.tables.supervised import Choices, fit, kind_of, prepare

RNG = np.random.default_rng(0)


def table(target, **inputs):
    inputs = inputs or {"x": RNG.normal(size=len(target))}
    return Table("made", pd.DataFrame(inputs), pd.Series(target, name="y"), "made.csv")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (["a", "b"] * 10, "classification"),
        ([True, False] * 10, "classification"),
        ([0, 1, 2, 3] * 5, "classification"),
        ([0.0, 1.0, None, 1.0] * 5, "classification"),
        (list(range(20)), "regression"),
        ([0.5, 1.5] * 10, "regression"),
        ([str(k / 7) for k in range(19)] + ["unknown"], "regression"),
    ],
)
def test_kind_of_target(target, kind):
    assert kind_of(pd.Series(target)) == kind


def test_rows_without_a_target_are_left_out_and_told():
    problem = prepare(table(["a", "b", None, "b"] * 10), None, Choices(), 0)
    assert len(problem.frame) == len(problem.target) == 30
    assert "10 rows without a target are left out" in problem.notes


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (["no", "yes"] * 10, ("no", "yes")),
        ([2, 1] * 10, (1, 2)),
        ([1.0, None, 2.0, 2.0] * 10, (1, 2)),
        ([False, True] * 10, (False, True)),
    ],
)
def test_classes_are_as_in_the_file(target, classes):
    problem = prepare(table(target), "classification", Choices(), 0)
    assert problem.classes == classes
    assert [type(label) for label in problem.classes] == [type(label) for label in classes]


def test_the_notes_tell_of_split_columns_and_missing_values():
    n = 60
    inputs = {
        "x": [None, *RNG.normal(size=n - 1)], "id": range(n), "kind": ["a", "b", "c"] * 20,
        "day": pd.date_range("2024-01-01", periods=n).strftime("%d.%m.%Y"),
    }  # fmt: skip
    problem = prepare(table(["u", "v"] * 29 + ["w", "w"], **inputs), None, Choices(), 0)
    text = "\n".join(problem.notes)
    assert "60 rows: 37 to train, 12 to choose settings by, 11 held out for the test" in text or (
        "60 rows: 36 to train, 12 to choose settings by, 12 held out for the test" in text
    )
    assert "target y: 3 classes (u 29, v 29, w 2); too rare to be tested: w" in text
    assert "columns used: 1 numbers, 1 dates, 1 categories" in text
    assert "columns left out: id (row number); --keep NAME keeps one" in text
    assert "missing values: x 1; filled with the median" in text
    assert "day: read as %d.%m.%Y" in text


def test_the_fit_sees_its_rows_alone():
    problem = prepare(table(RNG.normal(50, 9, 100)), None, Choices(), 0)
    found = fit(problem, problem.split.train)
    train = problem.target[problem.split.train]
    assert (found.centre, found.scale) == pytest.approx((train.mean(), train.std()))
    values = problem.frame["x"].to_numpy()[problem.split.train]
    assert found.encoder.features[0].centre == pytest.approx(values.mean())


def test_the_group_is_no_feature_and_stays_together():
    who = np.repeat([f"p{k}" for k in range(20)], 5)
    inputs = {"x": RNG.normal(size=100), "who": who}
    problem = prepare(table([0, 1] * 50, **inputs), None, Choices(group="who"), 0)
    assert [c.kind for c in problem.columns] == ["number", "left out"]
    assert "columns left out: who (rows are split by it)" in "\n".join(problem.notes)
    assert not set(who[problem.split.test]) & set(who[problem.split.fitted])


@pytest.mark.parametrize("text", ["%d.%m.%Y", "%Y-%m-%d", None])
def test_time_orders_dates_however_they_are_written(text):
    when = pd.date_range("2023-01-01", periods=100)[RNG.permutation(100)]
    column = when if text is None else when.strftime(text)
    inputs = {"x": RNG.normal(size=100), "when": column}
    problem = prepare(table([0, 1] * 50, **inputs), None, Choices(time="when"), 0)
    assert when[problem.split.train].max() < when[problem.split.test].min()


@pytest.mark.parametrize(
    ("target", "choices", "message"),
    [
        ([0, 1] * 20, Choices(group="z"), "--group 'z' names no feature column"),
        ([0, 1] * 20, Choices(group="x", time="x"), "leave one out"),
        ([0, 1] * 20, Choices(metric="rmse"), "--metric of a classification is one of"),
        (list(range(40)), Choices(balanced=True), "--class-weight is for classes"),
        ([0] * 30 + [1] * 10, Choices(time="t"), "the training rows have one class only"),
    ],
)
def test_choices_that_do_not_suit(target, choices, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(table(target, x=RNG.normal(size=40), t=np.arange(40) * 1.5), None, choices, 0)
