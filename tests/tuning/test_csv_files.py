"""CSV files as people have them."""

import numpy as np
import pytest

from fisherbo.tuning.data import load
from fisherbo.tuning.tasks import make_task

K = range(20)
A = [k + 0.5 for k in K]


def read(folder, head, line, newline="\n", before="", after="", encoding="utf-8"):
    text = newline.join([head, *map(line, K), after])
    path = folder / "data.csv"
    path.write_bytes((before + text).encode(encoding))
    return load(str(path), "y")


@pytest.mark.parametrize(
    ("head", "line", "b"),
    [
        ("a,b,y", lambda k: f"{k}.5,2,{k}", 2),
        ("a;b;y", lambda k: f"{k}.5;2;{k}", 2),
        ("a;b;y", lambda k: f"{k},5;2;{k}", 2),
        ("a;b;y", lambda k: f"{k},5;1.234;{k}", 1234),
        ("a;b;y", lambda k: f"{k},5;1.234.567,25;{k}", 1234567.25),
        ("a;b;y", lambda k: f"{k},5;-2,5e-3;{k}", -0.0025),
        ("a;b;y", lambda k: f"{k}.5;1,234.5;{k}", 1234.5),
        ("a\tb\ty", lambda k: f"{k},5\t,5\t{k}", 0.5),
        ("a|b|y", lambda k: f"{k}.5|1|{k}", 1),
        ("a,b,y", lambda k: f'"{k},5","1,5",{k}', 1.5),
        ("a,b,y", lambda k: f'{k}.5,"1,234",{k}', 1234),
        ("a,b,y", lambda k: f'{k}.5,"1,234.75",{k}', 1234.75),
        ('"a" , "b" , "y"', lambda k: f'"{k}.5" , "2" , {k}', 2),
        (" a ; b ; y ", lambda k: f" {k},5 ; 2,0 ; {k} ", 2),
        ("a;b;y;", lambda k: f"{k},5;2;{k};", 2),
        ("a,b,y", lambda k: f"{k}.5,{k}e20,{k}", [k * 1e20 for k in K]),
    ],
)
def test_numbers_are_read_as_they_are_meant(tmp_path, head, line, b):
    table = read(tmp_path, head, line)
    assert list(table.inputs) == ["a", "b"]
    np.testing.assert_array_equal(table.inputs["a"], A)
    np.testing.assert_array_equal(table.inputs["b"], np.broadcast_to(b, 20))
    np.testing.assert_array_equal(table.target, K)


@pytest.mark.parametrize(
    ("newline", "before", "after"),
    [
        ("\r\n", "\ufeff", ""),
        ("\r", "", ""),
        ("\n", "# made by a program, today; with | words\n\n#\n", "# end\n"),
        ("\r\n", "sep=;\r\n", ""),
    ],
)
def test_lines_that_are_no_rows(tmp_path, newline, before, after):
    table = read(tmp_path, "a;b;y", lambda k: f"{k},5;#2;{k}", newline, before, after)
    assert list(table.inputs) == ["a", "b"]
    np.testing.assert_array_equal(table.inputs["a"], A)
    assert set(table.inputs["b"]) == {"#2"}


def test_text_beside_decimal_commas_stays_text(tmp_path):
    table = read(tmp_path, "a;day;t;y", lambda k: f"{k},5;0{k % 3 + 1}.01.2020;{k % 2 == 0};{k}")
    np.testing.assert_array_equal(table.inputs["a"], A)
    assert set(table.inputs["day"]) == {"01.01.2020", "02.01.2020", "03.01.2020"}
    np.testing.assert_array_equal(table.inputs["t"].astype(int), [1, 0] * 10)


def test_spaces_make_no_other_level(tmp_path):
    table = read(tmp_path, "a,b,y", lambda k: f"{k}.5,{'gas' if k % 2 else 'gas '},{k}")
    assert set(table.inputs["b"]) == {"gas"}


@pytest.mark.parametrize("first", [0, 1_700_000_000, 1_700_000_000_000])
@pytest.mark.parametrize("task", ["classification", "regression", "autoencoder"])
def test_large_numbers_are_scaled_like_small_ones(tmp_path, first, task):
    def make(offset):
        table = read(tmp_path, "t,y", lambda k: f"{offset + 7 * k},{k % 2}")
        return make_task(table, task)

    here, there = make(first), make(0)
    np.testing.assert_allclose(here.train[0], there.train[0], rtol=1e-5, atol=1e-5)
    assert len(np.unique(here.train[0])) == len(here.train[0])


def test_a_constant_is_left_out(tmp_path):
    table = read(tmp_path, "t,c,y", lambda k: f"{k}.5,0.1,{k % 2}")
    assert make_task(table, "classification").train[0].shape[1] == 1


def test_nanoseconds_that_differ_by_seconds_are_kept(tmp_path):
    table = read(tmp_path, "t,y", lambda k: f"{1_700_000_000 + k}000000000,{k}")
    np.testing.assert_array_equal(np.diff(table.inputs["t"]), 10**9)
