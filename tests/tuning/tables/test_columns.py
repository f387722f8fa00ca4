from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.tables.columns import examine

N = 60
RNG = np.random.default_rng(0)


def kinds(**columns):
    return {c.name: (c.kind, c.note) for c in examine(pd.DataFrame(columns))}


def one(values, name="x", **options):
    frame = pd.DataFrame({name: values, "other": RNG.normal(size=len(values))})
    return examine(frame, **options)[0]


@pytest.mark.parametrize(
    ("values", "kind", "format"),
    [
        (RNG.normal(size=N), "number", None),
        ([True, False] * 30, "number", None),
        (["1.5", "2", "x", *["3.25"] * 57], "number", None),
        (["red", "green", None] * 20, "category", None),
        (pd.Categorical(["a", "b"] * 30), "category", None),
        ([True, False, None] * 20, "number", None),
        ([[1, 2], [3], [1, 2]] * 20, "category", None),
        ([Decimal("1.5"), Decimal("2"), None] * 20, "number", None),
        (["2024-05-17"] * 30 + ["2023-01-02"] * 30, "date", "ISO8601"),
        (["2024-05-17T10:00:00Z", "2024-05-18T11:30:00Z"] * 30, "date", "ISO8601"),
        (["17.05.2024", "01.02.2023"] * 30, "date", "%d.%m.%Y"),
        (["05/17/2024", "01/02/2023"] * 30, "date", "%m/%d/%Y"),
        (["17/05/2024", "01/02/2023"] * 30, "date", "%d/%m/%Y"),
        (["17.05.2024 08:15", "01.02.2023 23:59"] * 30, "date", "%d.%m.%Y %H:%M"),
        (["3 Mar 2024", "21 Dec 2023"] * 30, "date", "%d %b %Y"),
        (pd.to_datetime(["2024-05-17", "2023-01-02"] * 30), "date", "ISO8601"),
        (["1-2", "3-4"] * 30, "category", None),
        (["192.168.0.1", "10.0.0.1"] * 30, "category", None),
    ],
)
def test_kinds(values, kind, format):
    found = one(values)
    assert (found.kind, found.format) == (kind, format)


@pytest.mark.parametrize(
    ("name", "values", "note"),
    [
        ("x", [None] * N, "empty"),
        ("x", ["?"] * 10 + [""] * 50, "empty"),
        ("x", ["same"] * N, "constant"),
        ("x", [7] * N, "constant"),
        ("x", RNG.permutation(N) + 1000, "row number"),
        ("x", RNG.normal(size=N) * 1j, "complex numbers"),
        ("user_id", RNG.choice(10**6, N, replace=False), "id, all values differ"),
        ("userId", RNG.choice(10**6, N, replace=False), "id, all values differ"),
        ("x", [1234567890123456789 + 2 * k for k in range(N)], "id, all values differ"),
        ("patient_id", np.arange(N) // 2 * 7, "id, 30 values; --group patient_id keeps"),
        ("x", [f"K{k:03}" for k in range(N)], "id or name, 60 values in 60 rows"),
        ("x", [f"a long remark number {k}" for k in range(N)], "text"),
    ],
)
def test_what_is_left_out_and_why(name, values, note):
    found = one(values, name)
    assert found.kind == "left out"
    assert found.note.startswith(note)
    kept = one(values, name, keep=[name])
    assert (kept.kind == "left out") == (note in ("empty", "complex numbers"))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("population", RNG.choice(10**6, N, replace=False)),
        ("rooms_id", np.arange(N) % 5),
        ("solid", RNG.choice(10**6, N, replace=False)),
        ("delta", np.arange(N) - 30),
    ],
)
def test_numbers_that_are_no_ids(name, values):
    assert one(values, name).kind == "number"


def test_cells_that_are_no_numbers_are_told():
    assert one(["1", "2", "n/k", *["3"] * 57]).note == "1 cells are no numbers and count as missing"
    assert one([np.inf, *RNG.normal(size=59)]).note == "1 infinite values count as missing"


def test_a_constant_with_holes_says_something():
    assert one([5.0, None] * 30).kind == "number"
    assert one(["yes", None] * 30).kind == "category"


def test_drop_and_keep_name_columns():
    frame = pd.DataFrame({"area": RNG.normal(size=N), "rooms": RNG.normal(size=N)})
    assert examine(frame, drop=["rooms"])[1].note == "dropped"
    with pytest.raises(InvalidInputError, match=r"--drop 'room' names no feature column .did you"):
        examine(frame, drop=["room"])
    with pytest.raises(InvalidInputError, match="--keep 'x' names no feature column"):
        examine(frame, keep=["x"])
    with pytest.raises(InvalidInputError, match="no feature column is left to learn from"):
        examine(frame, drop=["area", "rooms"])
