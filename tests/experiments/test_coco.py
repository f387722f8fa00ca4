"""COCO's data: targets as COCO counts them, runs as its logger saw them, and the tables of both."""

import importlib.util
import json
import math
import tarfile
from dataclasses import asdict, replace
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments import bbob, coco, coco_data, coco_picture, coco_tables, result_tables, verify
from experiments.coco_data import TARGETS, History
from experiments.coco_picture import Panel, picture
from experiments.harness import rows, traces
from experiments.harness.traces import optimize

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("cocoex") is None, reason="cocoex is in the bench extra"
)
INDEX = """funcId = 8, DIM = 2, Precision = 1.000e-08, algId = 'some'
% a comment, with = signs
data_f8\\bbobexp_f8_DIM2.dat, 1:30|1.0e+00, 71:9|1.7e-02
"""
DATA = """% function evaluation | noise-free fitness - Fopt (9.8e+01) | best noise-free fitness ...
1 +7.5e+02 +7.5e+02 +7.6e+02 +7.6e+02 +2.2e+00 -1.8e+00
7 +2.0e+01 +2.0e+01 +7.6e+02 +7.6e+02 +2.2e+00 -1.8e+00
% function evaluation | noise-free fitness - Fopt (9.8e+01) | best noise-free fitness ...
1 +5.0e+02 +5.0e+02 +7.6e+02 +7.6e+02 +2.2e+00 -1.8e+00
"""
REGULAR = """% as above
1 +7.5e+02 +7.5e+02 +0.0e+00 +0.0e+00 +2.2e+00 -1.8e+00
5 +8.0e+02 +3.0e+02 +0.0e+00 +0.0e+00 +2.2e+00 -1.8e+00
10 +9.0e+02 +2.0e+01 +0.0e+00 +0.0e+00 +2.2e+00 -1.8e+00
% as above
9 +1.7e-02 +1.7e-02 +0.0e+00 +0.0e+00 +2.2e+00 -1.8e+00
"""


def run(function=1, instance=1, dimension=2, found=((1, 1000.0), (4, 10.0)), evaluations=100):
    return History("any", function, instance, dimension, evaluations, tuple(found))


def test_targets_are_those_of_coco():
    assert len(TARGETS) == 51
    assert TARGETS[[0, 5, 10, 50]] == pytest.approx([100, 10, 1, 1e-8], rel=1e-12)


def test_a_target_is_hit_where_the_regret_is_at_most_it():
    hits = run(found=((1, 1000.0), (4, 10.0), (9, 9.99), (30, 2e-8))).hits()
    assert hits.shape == (51,)
    assert list(hits[:6]) == [4] * 6  # 100 to 10, which is reached exactly
    assert hits[6] == 30
    assert list(np.isinf(hits[-3:])) == [False, True, True]  # 10^-7.6, 10^-7.8, 10^-8
    assert run(found=((3, 0.0),)).hits() == pytest.approx(np.full(51, 3))


def test_hits_are_those_of_the_values_one_by_one():
    values = 10 ** np.random.default_rng(0).uniform(-9, 3, 200)
    hits = run(found=coco_data.improvements(values)).hits()
    for target, hit in zip(TARGETS, hits, strict=True):
        reached = np.flatnonzero(values <= target)
        assert hit == (reached[0] + 1 if len(reached) else math.inf)


def test_improvements_give_the_best_after_any_number_of_evaluations():
    values = np.random.default_rng(1).uniform(0, 1, 50)
    made = run(found=coco_data.improvements([*values, values.min()]), evaluations=51)
    assert len(made.improvements) < 20
    for k, best in enumerate(np.minimum.accumulate(values), 1):
        assert made.regret(k) == best
    assert made.regret(0.5) == math.inf


def test_what_is_known_of_a_run_ends_with_it_unless_it_is_solved():
    assert run(evaluations=100).covers(100) and not run(evaluations=99).covers(100)
    assert run(found=((3, 1e-8),), evaluations=3).covers(100)


def test_shares_and_running_times_of_a_case_worked_by_hand():
    made = [
        run(function=1, instance=1, found=((4, 10.0), (20, 1.0))),  # 6 targets, 11
        run(function=1, instance=2, found=((2, 100.0), (8, 1.0))),  # 1, 11
        run(function=2, instance=1, found=((2, 1000.0),)),  # none
    ]
    expected = np.array([[3.5, 8.5, 11], [0, 0, 0]]) / 51
    assert coco_data.shares(made, (2, 4, 50)) == pytest.approx(expected)
    times = coco_data.expected_running_times(made, 1.0, 50)
    assert times == pytest.approx([(10 + 4) / 2, math.inf])
    assert coco_data.expected_running_times(made, 1.0, 5) == pytest.approx([5 + 4, math.inf])
    assert coco_data.log_regrets(made, 2) == pytest.approx([(1 + 2) / 2, 3])


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "exdata"
    (folder / "data_f8").mkdir(parents=True)
    (folder / "bbobexp_f8.info").write_text(INDEX)
    (folder / "data_f8" / "bbobexp_f8_DIM2.dat").write_text(DATA)
    (folder / "data_f8" / "bbobexp_f8_DIM2.tdat").write_text(REGULAR)
    return folder


def test_logs_of_coco_are_read_from_folders_and_archives(logs, tmp_path):
    found = coco_data.read(logs)
    assert found == [
        History("some", 8, 1, 2, 30, ((1, 750.0), (5, 300.0), (7, 20.0))),
        History("some", 8, 71, 2, 9, ((1, 500.0), (9, 0.017))),
    ]
    with tarfile.open(tmp_path / "some.tgz", "w:gz") as archive:
        archive.add(logs, arcname="inside")
    assert coco_data.read(tmp_path / "some.tgz") == found
    assert coco.archived([tmp_path / "some.tgz"]) == {"some": found}


def test_an_interrupted_run_counts_as_far_as_it_is_logged(logs):
    (logs / "bbobexp_f8.info").write_text(INDEX.replace("71:9|1.7e-02", "71"))
    assert coco_data.read(logs)[1].evaluations == 9


def test_data_that_are_not_as_their_index_says_are_left_out(logs):
    (logs / "bbobexp_f8.info").write_text(INDEX.replace(", 71:9|1.7e-02", ""))
    with pytest.warns(UserWarning, match="1 data files have other numbers of runs"):
        assert coco_data.read(logs) == []


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no data of COCO's logger"):
        coco_data.read(tmp_path)


def test_every_run_has_a_seed_of_its_own_and_every_instance_comes_with_all_functions():
    made = coco.runs(["fisher"], coco_tables.DIMENSIONS, coco.INSTANCES, bbob.FUNCTIONS, 50)
    assert len(made) == 24 * 15 * 5 == len({m.seed for m in made}) == len({m.problem for m in made})
    assert [m.problem[:8] for m in made[:24]] == [f"f{k:03d}_i01" for k in range(1, 25)]
    assert {m.budget for m in made} == {100, 150, 250, 500, 1000}


@needs_coco
def test_coco_saw_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    monkeypatch.setattr(traces, "SHIPPED", tmp_path / "none")
    given = ["--dims", "2", "--instances", "71", "--functions", "8", "21", "--per-dimension", "7"]
    (wanted, _) = made = coco.runs(["fisher"], [2], [71], [8, 21], 7)
    unfinished = coco.folder("fisher") / wanted.problem / "data_f8"
    unfinished.mkdir(parents=True)
    (unfinished / "bbobexp_f8_DIM2.dat").write_text("cut off")
    coco.main([*given, "--samplers", "fisher"])
    kept = rows.load(tmp_path / "coco.jsonl")
    assert list(kept) == [m.key() for m in made]
    for m in made:
        ours = coco.history(kept[m.key()])
        (seen,) = coco_data.read(coco.folder("fisher") / m.problem)
        assert seen == replace(ours, improvements=seen.improvements)
        assert seen.evaluations == 14
        np.testing.assert_array_equal(seen.hits(), ours.hits())
        for number, value in seen.improvements:
            assert value == pytest.approx(ours.regret(number), rel=1e-8)
        plain = optimize(m, bbob.problem(m.problem)).values
        assert ours.improvements == coco_data.improvements(plain)
    before = (tmp_path / "coco.jsonl").read_bytes()
    coco.main([*given, "--samplers", "fisher"])
    assert (tmp_path / "coco.jsonl").read_bytes() == before


@needs_coco
def test_a_solved_run_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    (wanted,) = coco.runs(["fisher"], [2], [1], [1], 50)
    row = coco.work(wanted)
    assert row["evaluations"] < 100
    assert row["improvements"][-1] == (row["evaluations"], pytest.approx(0, abs=1e-8))
    assert coco.history(json.loads(json.dumps(row))).covers(100)


@needs_coco
@pytest.mark.filterwarnings("ignore")
def test_cocopp_counts_the_same_hits(tmp_path, monkeypatch):
    cocopp = pytest.importorskip("cocopp")
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    made = coco.runs(["fisher"], [2], [1, 71], [3], 10)
    ours = [coco.history(coco.work(m)) for m in made]
    (found,) = cocopp.load(str(coco.folder("fisher")))
    theirs = np.array(found.detEvals(list(TARGETS)))
    theirs[np.isnan(theirs)] = np.inf
    hits = np.array([h.hits() for h in ours]).T
    np.testing.assert_array_equal(np.sort(theirs, axis=1), np.sort(hits, axis=1))


def whole(name, ends, instance=1, dimension=2):
    """Runs on all functions, which reach 10^ends at the tenth evaluation."""
    found = ((1, 1000.0), (10, 10.0**ends))
    return [
        History(name, f, instance, dimension, 50 * dimension, found)
        for f in coco_data.ALL_FUNCTIONS
    ]


def test_tables_have_the_right_numbers_and_dashes_where_runs_have_ended(capsys):
    short = [replace(h, evaluations=20) for h in whole("short", -2)]
    made = {"FisherSampler": whole("FisherSampler", -2), "other": whole("other", 0)}
    table = coco_tables.all_functions({**made, "short": short})
    first, second, third = zip(*(column.cells for column in table.columns), strict=True)
    assert first[:5] == ("2-D", "FisherSampler", "1", "0.000", f"{21 / 51:.3f}")
    assert first[8] == "-2.000"
    assert second[8:11] == ("0.000", "+0.196 [+0.196, +0.196]", "100%")
    assert float(second[11]) < 1e-6
    assert third[5:] == (f"{21 / 51:.3f}", "–", "–", "–", "–", "–", "–")
    times = coco_tables.running_times(made)
    cells = list(zip(*(column.cells for column in times.columns), strict=True))
    assert cells[1] == ("2-D", "other", "24 (5.0)", "24 (5.0)", "0 (inf)", "0 (inf)", "0 (inf)")
    group = next(zip(*(c.cells for c in coco_tables.by_group(made).columns), strict=True))
    assert group[:3] == ("2-D", "separable", "FisherSampler")


def test_only_instances_with_all_functions_count():
    made = whole("any", 0, instance=1) + whole("any", 0, instance=2)[:23]
    assert {h.instance for h in coco.complete(made)} == {1}


def test_a_picture_has_a_line_for_each_algorithm_that_ends_with_its_runs():
    panel = Panel("2-D <all>", {"one & only": [0.0, 0.25, 0.4], "two": [0.0, 0.1, None]})
    drawn = picture("title", [0.5, 5.0, 50.0], [[panel, panel], [panel]], (100, 100))
    root = ElementTree.fromstring(drawn)
    lines = [e.get("points").split() for e in root.iter() if e.tag.endswith("polyline")]
    assert sorted(map(len, lines)) == [2, 2, 2, 3, 3, 3]
    x, y = map(float, lines[-1][-1].split(","))
    assert (x, y) == (coco_picture.LEFT + 100, float(lines[-1][0].split(",")[1]) - 100)
    assert "2-D <all>: one & only 0.400;" in root.find("{*}desc").text


def test_the_result_file_follows_from_the_shipped_runs(monkeypatch):
    assert verify.wrong_coco() == []
    printed = result_tables.text("coco")
    cell = result_tables.table("coco", "CPU ms").rows[0][-1]
    monkeypatch.setattr(
        result_tables, "text", lambda name: printed.replace(f" {cell} │", " 99.9 │")
    )
    result_tables.tables.cache_clear()
    try:
        assert any("99.9" in problem for problem in verify.wrong_coco())
    finally:
        result_tables.tables.cache_clear()


def test_a_wrong_end_of_a_curve_is_found(monkeypatch, tmp_path):
    assert verify.wrong_curves() == []
    for name in ("coco.svg", "coco_groups.svg", "coco.md"):
        (tmp_path / name).write_text((result_tables.RESULTS / name).read_text())
    drawn = (tmp_path / "coco.svg").read_text()
    (tmp_path / "coco.svg").write_text(drawn.replace("FisherSampler 0.", "FisherSampler 1.", 1))
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    (problem,) = verify.wrong_curves()
    assert "2-D, FisherSampler: 1." in problem


@pytest.fixture
def own_place(monkeypatch, tmp_path):
    """Runs, shipped runs and results in an empty folder."""
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    monkeypatch.setattr(rows, "REPORTS", tmp_path)
    for module in (traces, coco):
        monkeypatch.setattr(module, "SHIPPED", tmp_path)
    return tmp_path


def kept_row(sampler, function, per_dimension=50):
    """A row as if it had been made, with its key."""
    (wanted,) = coco.runs([sampler], [2], [1], [function], per_dimension)
    row = {"run": asdict(wanted), "improvements": [[1, 3.0], [9, 1e-9]], "evaluations": 9}
    return wanted.key(), {**row, "cpu_seconds": 0.09}


def test_what_is_kept_in_whole_is_shipped_and_reported(own_place):
    for function in coco_data.ALL_FUNCTIONS:
        rows.append(own_place / "coco.jsonl", *kept_row("fisher", function))
    rows.append(own_place / "coco.jsonl", *kept_row("lq", 1))
    rows.append(own_place / "coco.jsonl", *kept_row("fisher", 2, per_dimension=60))
    coco.main(["--write"])
    assert len(traces.shipped("coco")) == 25
    (found,) = [
        t for t in result_tables.parsed((own_place / "coco.md").read_text()) if "24" in t.title
    ]
    assert found.rows == (
        ("2-D", "FisherSampler", "1", f"{8 / 51:.3f}", *["1.000"] * 4, "-8.000", *"–––"),
    )
    assert "2-D: FisherSampler 1.000" in (own_place / "coco.svg").read_text()


def test_nothing_is_shipped_while_no_instance_is_whole(own_place):
    rows.append(own_place / "coco.jsonl", *kept_row("fisher", 1))
    with pytest.raises(SystemExit, match="no instance has all functions"):
        coco.main(["--write"])
    assert not (own_place / "coco.jsonl.gz").exists()


def test_without_cocopp_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(coco, "not_installed", lambda what, package: f"{what}: install {package}")
    coco.main(["--postprocess"])
    assert capsys.readouterr().out == "--postprocess: install cocopp six\n"
