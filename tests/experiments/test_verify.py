"""Pages print what the result files say; a number that is planted is found."""

import pytest

from experiments import pages, result_tables, verify

BENCHMARKS = verify.BENCHMARKS
GUIDES = [page for page in verify.OTHERS if page.parent.name == "guides"]
SENTENCE = "A suggestion takes {}<!-- latency > fisher; 5; 50 > median --> ms.\n"


def test_every_number_of_the_pages_is_that_of_its_file(capsys):
    with pytest.raises(SystemExit) as ended:
        verify.main([])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "0 wrong" in said.out


@pytest.mark.parametrize("name", pages.TABLES)
def test_a_wrong_cell_of_a_table_is_found(name):
    right = f"<!-- table: {name} -->\n\n{pages.TABLES[name]()}\n"
    assert not list(verify.wrong_tables(right))
    head, _, last = right.rstrip().rpartition("\n")
    digit = next(i for i, c in enumerate(reversed(last)) if c.isdigit())
    at = len(last) - 1 - digit
    planted = last[:at] + str((int(last[at]) + 1) % 10) + last[at + 1 :]
    (problem,) = verify.wrong_tables(f"{head}\n{planted}\n")
    assert name in problem
    (problem,) = verify.wrong_tables(f"{head}\n")
    assert "number of rows" in problem
    (problem,) = verify.wrong_tables(f"{right}and text\n")
    assert "leave one blank" in problem


def test_a_wrong_number_of_the_text_is_found_and_corrected():
    measured = result_tables.looked_up("latency > fisher; 5; 50 > median")
    right = SENTENCE.format(f"**{measured:.1f}**")
    assert not list(verify.wrong_numbers(right))
    wrong = SENTENCE.format(f"**{measured + 0.1:.1f}**")
    assert len(list(verify.wrong_numbers(wrong))) == 1
    assert verify.corrected(wrong) == right


def test_a_wrong_stamp_is_found_and_corrected():
    right = f"<!-- made: latency -->\n{result_tables.stamp('latency')}\n"
    assert not list(verify.wrong_stamps(right))
    wrong = right.replace("Written on 2", "Written on 3")
    assert len(list(verify.wrong_stamps(wrong))) == 1
    assert verify.corrected(wrong) == right


def test_a_page_with_a_planted_number_is_refused(tmp_path):
    page = BENCHMARKS.read_text()
    assert verify.problems_of(BENCHMARKS, page) == []
    planted = page.replace("## Faults", "It is 37 times as fast.\n\n## Faults")
    (problem,) = verify.problems_of(BENCHMARKS, planted)
    assert "37 has no source" in problem


def place_of(page):
    """The first number of a guide's text that has a place, with its comment."""
    return next(verify.PLACED.finditer(page.read_text()), None)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_number_planted_in_a_guide_is_found(page):
    text = page.read_text()
    assert verify.problems_of(page, text) == []
    for planted in (f"{text}\nIt is 37 times as fast.\n", text.replace(".\n", ", 37 times.\n", 1)):
        (problem,) = verify.problems_of(page, planted)
        assert "37 has no source" in problem


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if place_of(page)], ids=lambda page: page.stem
)
def test_a_number_of_a_guide_that_is_not_its_files_is_found(page):
    found = place_of(page)
    wrong = "7,777" + found[0].removeprefix(found["number"])
    (problem,) = verify.problems_of(page, page.read_text().replace(found[0], wrong, 1))
    assert "printed 7,777" in problem
    assert found["place"] in problem


def test_a_guide_says_which_of_its_numbers_were_chosen():
    page = GUIDES[0]
    said = "After 60 trials{}.\n"
    assert not verify.problems_of(page, said.format(" <!-- set-up: 60 -->"))
    (problem,) = verify.problems_of(page, said.format(", in 7 ms <!-- set-up: 60 -->"))
    assert "7 has no source" in problem
    (problem,) = verify.problems_of(page, said.format(", in 7 ms <!-- set-up -->"))
    assert "which numbers were chosen" in problem


def test_numbers_of_references_formulas_and_code_need_no_source():
    code = "```python\na = 5\n\nb = 6\n```"
    said = f"1. As $t^2 = 3$ in `x = 4` (Snoek et al. 2012):\n\n{code}\n\n$$c = 7$$\n"
    assert list(verify.sourceless_numbers(said)) == []
    said = "In 2012 runs of 40 (Snoek et al. 2012)."
    assert [found.split()[0] for found in verify.sourceless_numbers(said)] == ["2012", "40"]


@pytest.mark.parametrize("item", ["Fewer trials", "Milliseconds", "Fewer steps"])
def test_a_number_planted_in_the_readme_is_refused(item):
    readme = verify.PAGES[0]
    planted = readme.read_text().replace(f"**{item}**", f"**{item}** by 99")
    (problem,) = verify.problems_of(readme, planted)
    assert "99 has no source" in problem


@pytest.mark.parametrize(
    ("printed", "measured", "right"),
    [
        ("22", 21.5, True),
        ("22", 22.6, False),
        (".55", 0.5549, True),
        ("−.13", -0.1304, True),
        ("+.024", 0.0251, False),
        ("1,490", 1490.35, True),
        ("6.6e-9", 6.6e-9, True),
        ("6.6e-9", 6.8e-9, False),
    ],
)
def test_a_number_is_right_if_it_is_the_measured_one_rounded(printed, measured, right):
    assert verify.agrees(printed, measured) is right


@pytest.mark.parametrize(
    "place",
    [
        "nothing > fisher > median",
        "latency > nobody > median",
        "latency > fisher; 5; 50 > nothing",
        "latency > fisher; 5; 50 > median #2",
        'botorch > "no such words"',
        'botorch > "CPU time"',  # in three lines
        "latency > fisher; 50 > median",  # in two dimensions
    ],
)
def test_a_place_that_is_not_there_is_an_error(place):
    with pytest.raises(LookupError):
        result_tables.looked_up(place)
    (problem,) = verify.wrong_numbers(f"It is 5<!-- {place} -->.")
    assert problem.startswith("5: ")


def test_cells_over_several_lines_are_joined(monkeypatch):
    monkeypatch.setattr(
        result_tables,
        "text",
        lambda name: (
            "   a title\n┏━━┳━━┓\n┃  ┃ b ┃\n┃ a ┃ c ┃\n┡━━╇━━┩\n"
            "│ x │ 1 [2, │\n│   │ 3] │\n├──┼──┤\n│ y │ 4 │\n└──┴──┘\n"
        ),
    )
    (found,) = result_tables.tables.__wrapped__("any")
    assert found.title == "a title"
    assert found.columns == ("a", "b c")
    assert found.cell("x", "b c") == "1 [2, 3]"
    assert result_tables.number(found.cell("x", "b c"), 3) == 3


def test_the_comparison_follows_from_the_shipped_traces(monkeypatch):
    pytest.importorskip("cocoex")
    assert verify.wrong_comparison() == []
    printed = result_tables.text("comparison")
    cell = result_tables.table("comparison", "BBOB 5-D: 24").cell("gp", "regret 50")
    monkeypatch.setattr(result_tables, "text", lambda name: printed.replace(cell, "9.999"))
    result_tables.tables.cache_clear()
    try:
        assert any("gp, regret 50: 9.999" in problem for problem in verify.wrong_comparison())
    finally:
        result_tables.tables.cache_clear()


def test_the_picture_has_the_numbers_of_the_tables(monkeypatch, tmp_path):
    assert verify.wrong_picture() == []
    drawn = (result_tables.RESULTS / "regret.svg").read_text()
    (tmp_path / "regret.svg").write_text(drawn.replace("gp median 50 ", "gp median 50 9"))
    for name in ("latency", "comparison"):
        (tmp_path / f"{name}.md").write_text(result_tables.text(name))
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    (problem,) = verify.wrong_picture()
    assert "gp median 50" in problem
