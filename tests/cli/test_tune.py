import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

from fisherbo.cli import main
from fisherbo.tuning.tables.model import load_model

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def process_settings():
    """The command sets the threads and the logging of its process; the tests set them back."""
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tune(*words):
    return main(["tune", "--max-steps", "5", "--sampler", "random", "--trials", "2", *words])


def refused(capsys, code, *words):
    """The one line on standard error of a command that must fail with this code."""
    assert tune(*words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if " trials, " not in line]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("fisherbo: error: ")
    return lines[0]


def write(folder, text, name="data.csv"):
    (folder / name).write_text(text)
    return name


def rows(make, head="a,b,y", count=20):
    return head + "\n" + "\n".join(make(k) for k in range(count)) + "\n"


def test_tune_makes_the_storage_and_the_report(folder, capsys):
    assert tune("--data", "iris", "--compare", "adam,sgd,adam") == 0
    out = capsys.readouterr().out
    assert "kfac" in out and "adam" in out and "sgd" in out
    assert "report: runs/iris-classification.html" in out
    assert "model: runs/iris-classification.pt" in out
    assert (folder / "runs" / "iris-classification.html").stat().st_size > 1e6
    names = optuna.get_all_study_names("sqlite:///runs/tune.db")
    assert sorted(names) == [f"iris-classification-{name}" for name in ("adam", "kfac", "sgd")]


def test_resume_from_two_to_three(folder, capsys):
    words = ("--data", "iris", "--optimizer", "sgd", "--quiet", "--study-name", "mine")
    assert tune(*words) == 0
    assert tune(*words, "--trials", "3") == 0
    study = optuna.load_study(study_name="mine", storage="sqlite:///runs/tune.db")
    assert len(study.trials) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert (folder / "runs" / "mine.html").exists()


def test_the_study_name_has_the_optimizer_where_there_are_several(folder, capsys):
    words = ("--data", "iris", "--optimizer", "sgd", "--quiet", "--study-name", "mine")
    assert tune(*words, "--compare", "adam") == 0
    assert capsys.readouterr().err == ""
    assert tune(*words, "--compare", "sgd") == 0  # is one optimizer
    names = optuna.get_all_study_names("sqlite:///runs/tune.db")
    assert sorted(names) == ["mine", "mine-adam", "mine-sgd"]
    assert capsys.readouterr().err == (
        "fisherbo: note: study 'mine' is new; 'mine-sgd' is another study, which --study-name "
        "mine-sgd without --compare goes on with\n"
    )
    assert tune(*words) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_files(folder, kind):
    frame = pd.DataFrame({name: RNG.normal(size=40) for name in ("a", "b", "y")})
    if kind == "csv":
        frame.to_csv("data.csv", index=False)
    elif kind == "parquet":
        frame.to_parquet("data.parquet")
    else:
        np.savez("data.npz", X=frame[["a", "b"]].to_numpy(), y=frame["y"].to_numpy())
    words = ("--data", f"data.{kind}", "--target", "y", "--storage", "tune.db", "--hidden", "4,4")
    assert tune(*words, "--report", "page.html", "--optimizer", "adam") == 0
    study = optuna.load_study(study_name="data-regression-adam", storage="sqlite:///tune.db")
    assert study.user_attrs["fisherbo"]["hidden"] == [4, 4]
    assert (folder / "page.html").exists()


FILES = [
    ("missing.csv", None, "cannot read missing.csv: no such file; check the path"),
    ("data.csv", "", "data.csv is empty; it needs a line of column names"),
    ("data.csv", "a,b,y\n", "at least 10 rows are needed, got 0"),
    ("data.csv", rows(lambda k: f"{k},1,2", count=9), "at least 10 rows are needed, got 9"),
    ("data.csv", rows(lambda k: "1,2,3,4" if k == 5 else "1,2,3"), "ragged"),
    ("data.csv", rows(lambda k: "1,2,3,4"), "ragged"),
    ("data.csv", rows(lambda k: f"{k},2"), "rows with a target: at least 10 rows are needed, got"),
    (
        "data.csv",
        rows(lambda k: f"{k},word{k},{k}", count=30),
        "no feature column is left to learn from: a (row number), b (id or name, 30 values in 30 "
        "rows); --keep NAME keeps one",
    ),
    ("data.csv", rows(lambda k: f"{k},1", "a;b;y"), "ragged"),
    ("data.csv", rows(lambda k: f"{k};1;2", "a;b;y"), "2 to 100 classes, got 1 distinct"),
    (
        "data.csv",
        rows(lambda k: "1;2;3;4" if k == 5 else "1;2;3", "a;b;y"),
        "columns are separated by ';', the names are 3 fields, row 6 has 4; give every line",
    ),
    (
        "data.csv",
        rows(lambda k: f"{k},5;{k}.5;{k}", "a;b;y"),
        "decimal commas or all decimal points, got '0.5' in column 'b' beside commas",
    ),
    ("data.csv", rows(lambda k: f"1,{k};2,{k};3", "1,5;2,5;3"), "first line must name the columns"),
    ("data.csv", rows(lambda k: f"{k},1,2", "# a,b,y"), "(lines that begin with # are comments)"),
    ("data.csv", "# one\n\n# two\n", "data.csv is empty"),
    (
        "data.csv",
        rows(lambda k: f"{1234567890123456789 + 2 * k},1,{k}"),
        "no feature column is left to learn from: a (row number), b (constant)",
    ),
    (
        "data.csv",
        rows(lambda k: f"{k},1,{1234567890123456789 + k}"),
        "20 distinct whole numbers of column 'y'",
    ),
    ("data.csv", rows(lambda k: f"{k},1,2", "0.5,1,2"), "the first line must name the columns"),
    ("data.csv", rows(lambda k: f"{k},1,2", "a,b,Y"), "no column 'y' (did you mean 'Y'?); "),
    ("data.csv", rows(lambda k: f"{k},1,2", "a,b,c"), "its columns are a, b, c"),
    ("data.csv", rows(lambda k: str(k), "y"), "no feature column besides the target"),
    ("data.csv", rows(lambda k: "1,1," + str(k)), "no feature column is left to learn from"),
    ("data.csv", rows(lambda k: f"{k},1,2"), "2 to 100 classes, got 1 distinct"),
    ("data.parquet", "not parquet", "is not a Parquet file"),
    ("data.npz", "not npz", "is not an NPZ file"),
    ("data.xlsx", "x", "files of kind '.xlsx' are not known"),
]


@pytest.mark.parametrize(("name", "text", "message"), FILES)
def test_files_that_cannot_be_used(folder, capsys, name, text, message):
    if text is not None:
        write(folder, text, name)
    assert message in refused(capsys, 2, "--data", name, "--target", "y")
    assert not (folder / "runs").exists()


def test_file_in_another_encoding(folder, capsys):
    (folder / "data.csv").write_bytes(b"a,y\n" + b"\xff\xfe1,2\n" * 20)
    assert "not text in UTF-8" in refused(capsys, 2, "--data", "data.csv", "--target", "y")


def test_folder_in_place_of_a_file(folder, capsys):
    (folder / "data.csv").mkdir()
    assert "a directory" in refused(capsys, 2, "--data", "data.csv")


def test_thousand_classes(folder, capsys):
    write(folder, rows(lambda k: f"{k},{k % 7},{k}", count=1000))
    line = refused(capsys, 2, "--data", "data.csv", "--target", "y", "--task", "classification")
    assert "2 to 100 classes, got 1000 distinct values in 1000 rows; use --task regression" in line


WORDS = [
    (["--data", "digit"], "unknown data 'digit' (did you mean 'digits'?)"),
    (["--data", "iris", "--target", "y"], "iris brings its own target"),
    (["--task", "clustering"], "unknown task 'clustering'"),
    (["--data", "iris", "--task", "regression"], "must be numbers, got the classes setosa"),
    (["--optimizer", "kfak"], "unknown optimizer 'kfak' (did you mean 'kfac'?); known are kfac"),
    (["--compare", "adam,lion"], "unknown optimizer 'lion'"),
    (["--sampler", "fish"], "unknown sampler 'fish'"),
    (["--pruner", "fish"], "unknown pruner 'fish' (did you mean 'fisher'?)"),
    (["--trials", "0"], "argument --trials: must be a whole number of at least 1, got '0'"),
    (["--trials", "many"], "argument --trials: must be a whole number"),
    (["--seed", "-1"], "at least 0, got '-1'"),
    (["--max-steps", "1.5"], "argument --max-steps"),
    (["--max-seconds", "0"], "must be a number greater than 0, got '0'"),
    (["--max-seconds", "nan"], "must be a number greater than 0, got 'nan'"),
    (["--target-loss", "-3"], "must be a number greater than 0, got '-3'"),
    (["--hidden", "64,,2"], "argument --hidden"),
    (["--batch-size", "0"], "argument --batch-size"),
    (["--threads", "0"], "argument --threads"),
    (["--storage", "nosuch://x"], "storage 'nosuch://x' is not a database URL"),
    (["--damping", "0"], "unrecognized arguments: --damping 0; see fisherbo --help"),
]


@pytest.mark.parametrize(("words", "message"), WORDS)
def test_words_that_cannot_be_used(folder, capsys, words, message):
    assert message in refused(capsys, 2, *words)
    assert not (folder / "runs" / "tune.db").exists()


def test_data_without_target(folder, capsys):
    write(folder, rows(lambda k: f"{k},1,2"))
    line = refused(capsys, 2, "--data", "data.csv", "--task", "regression")
    assert "regression needs a target column, got none; name it with --target" in line


def test_a_report_that_cannot_be_written_is_said_before_a_trial_is_made(folder, capsys):
    (folder / "page.html").mkdir()
    line = refused(capsys, 2, "--data", "iris", "--report", "page.html")
    assert "--report page.html cannot be written: it is a folder; choose another place" in line
    assert not (folder / "runs").exists()


def test_no_command(capsys):
    assert main([]) == 2
    assert "command" in capsys.readouterr().err


def test_storage_that_does_not_answer(folder, capsys):
    pytest.importorskip("psycopg2")
    line = refused(capsys, 1, "--data", "iris", "--storage", "postgresql://a:pw@127.0.0.1:1/x")
    assert "storage postgresql://a:***@127.0.0.1:1/x cannot be used" in line


def test_storage_that_is_no_database(folder, capsys):
    write(folder, "words " * 100, "tune.db")
    assert "file is not a database" in refused(capsys, 1, "--data", "iris", "--storage", "tune.db")


def test_other_data_under_the_same_name(folder, capsys):
    words = ("--study-name", "one", "--optimizer", "adam")
    assert tune("--data", "iris", *words, "--quiet") == 0
    line = refused(capsys, 2, "--data", "wine", *words)
    assert "made with another configuration" in line
    assert "data was 'iris', is 'wine'" in line


def test_an_interrupted_trial_goes_on_from_its_checkpoint(folder, capsys, monkeypatch):
    reports, report = [], optuna.Trial.report

    def interrupted(trial, value, step):
        reports.append((trial.number, step))
        if len(reports) == 4:
            raise KeyboardInterrupt
        report(trial, value, step)

    monkeypatch.setattr(optuna.Trial, "report", interrupted)
    words = ["--data", "iris", "--quiet", "--checkpoints", "kept", "--max-steps", "8"]
    assert tune(*words) == 130
    assert [file.name for file in (folder / "kept").rglob("*.pt")] == ["trial-0.pt"]
    resume = capsys.readouterr().err.split("resume: fisherbo ")[1]
    assert main(shlex.split(resume)) == 0
    study = optuna.load_study(
        study_name="iris-classification-kfac", storage="sqlite:///runs/tune.db"
    )
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].user_attrs["fisherbo:resume"] == 0
    assert study.trials[1].params == study.trials[0].params
    assert list(study.trials[1].intermediate_values) == list(study.trials[2].intermediate_values)
    assert not list((folder / "kept").rglob("*.pt"))


@pytest.mark.parametrize(("pruner", "predicts"), [("fisher", True), ("none", False)])
def test_pruners_by_name(folder, pruner, predicts):
    words = ["--data", "iris", "--quiet", "--max-steps", "40", "--trials", "5"]
    assert tune(*words, "--pruner", pruner) == 0
    study = optuna.load_study(
        study_name="iris-classification-kfac", storage="sqlite:///runs/tune.db"
    )
    assert any("fisherbo:predicted_end" in trial.user_attrs for trial in study.trials) == predicts


def test_without_plotly_the_table_is_printed(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert tune("--data", "iris", "--optimizer", "adam") == 0
    captured = capsys.readouterr()
    assert "best parameters" in captured.out
    assert "no HTML report: plotly is not installed" in captured.err


def test_every_trial_failed(folder, capsys, monkeypatch):
    from fisherbo.errors import DivergedError
    from fisherbo.tuning import objective

    def diverges(*args, **kwargs):
        raise DivergedError("the loss is nan after 0 steps; lower lr")

    monkeypatch.setattr(objective, "fit", diverges)
    assert tune("--data", "iris", "--quiet") == 1
    err = capsys.readouterr().err
    assert err == (
        "fisherbo: error: no trial of kfac is complete: the loss is nan after 0 steps; lower lr\n"
    )


def test_interrupt_says_how_to_resume(folder, capsys, monkeypatch):
    from fisherbo.tuning import objective

    calls, fit = [], objective.fit

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:  # the second trial; each is in four folds
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    monkeypatch.setattr(objective, "fit", interrupted)
    words = ["--data", "iris", "--quiet", "--storage", "my runs.db"]
    assert tune(*words) == 130
    err = capsys.readouterr().err
    assert "interrupted; finished trials are kept, resume: fisherbo tune" in err
    assert main(shlex.split(err.split("resume: fisherbo ")[1])) == 0
    study = optuna.load_study(study_name="iris-classification-kfac", storage="sqlite:///my runs.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]


MEET = """
import os, sys, time
from pathlib import Path
from fisherbo.tuning import objective

count, fit = int(sys.argv[1]), objective.fit

def meet(*arguments, **options):
    # each process waits in its first run until all have begun one; the file tells the test
    Path(f"begun-{os.getpid()}").touch()
    while len(list(Path().glob("begun-*"))) < count:
        time.sleep(0.05)
    return fit(*arguments, **options)

objective.fit = meet  # in the workers too: they run this file, as __mp_main__
if __name__ == "__main__":
    from fisherbo.cli import main
    sys.exit(main(sys.argv[2:]))
"""


def hear_ctrl_c():
    """As on a terminal; a process started in the background may have been told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def started(folder, jobs, *words):
    """`fisherbo tune` in so many processes, each of which runs a trial while the others do."""
    (folder / "meet.py").write_text(MEET)
    command = [sys.executable, "meet.py", str(jobs), "tune", "--data", "iris", "--jobs", str(jobs)]
    process = subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=ENVIRONMENT, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    try:
        while len(list(folder.glob("begun-*"))) < jobs and process.poll() is None:
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_ctrl_c_in_a_process(folder):
    with started(folder, 1, "--optimizer", "adam", "--trials", "500", "--quiet") as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    study = optuna.load_study(
        study_name="iris-classification-adam", storage="sqlite:///runs/tune.db"
    )
    assert all(trial.state.is_finished() for trial in study.trials)


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [False, True])
def test_jobs_share_the_trials_and_end_together(folder, interrupt):
    trials = "400" if interrupt else "12"
    with started(folder, 2, "--max-steps", "40", "--trials", trials) as process:
        if interrupt:
            process.send_signal(signal.SIGINT)  # to the parent only, as `kill -INT` does
        out, err = process.communicate()
    assert "Traceback" not in err
    study = optuna.load_study(
        study_name="iris-classification-kfac", storage="sqlite:///runs/tune.db"
    )
    assert all(trial.state.is_finished() for trial in study.trials)
    starts = [trial.datetime_start for trial in study.trials]
    ends = [trial.datetime_complete for trial in study.trials]
    assert any(a < end for a, end in zip(starts[1:], ends, strict=False)), "none ran side by side"
    if interrupt:
        assert process.returncode == 130
    else:
        assert process.returncode == 0
        assert sum(t.state.name in ("COMPLETE", "PRUNED") or "failure" in t.user_attrs
                   for t in study.trials) == 12  # fmt: skip
        assert err == "" and "best parameters" in out


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import sys, fisherbo.cli as c\n"
        "try: c.main(['tune', '--help'])\n"
        "finally: print('MODULES', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert "examples:" in done.stdout
    modules = done.stdout.split("MODULES")[1].split()
    assert not {"torch", "optuna", "pandas", "rich"} & set(modules)


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("fisherbo ")


def test_json_is_what_the_study_holds(folder, capsys):
    assert tune("--data", "iris", "-f", "json") == 0
    found = json.loads(capsys.readouterr().out)
    (result,) = found["results"]
    study = optuna.load_study(study_name=result["study"], storage="sqlite:///runs/tune.db")
    assert result["best_value"] == study.best_value
    assert result["trials"]["complete"] == 2
    assert found["report"] == "runs/iris-classification.html"
    model = found["model"]
    assert model["file"] == "runs/iris-classification.pt"
    assert model["rows"] == {"train": 90, "validation": 30, "test": 30}
    assert list(model["test"]) == [
        "kfac network",
        "majority class",
        "logistic",
        "gradient boosting",
    ]
    saved = load_model(model["file"])
    for name, (value, low, high) in saved.scores.items():
        assert model["test"]["kfac network"][name] == {"value": value, "low": low, "high": high}


def test_an_autoencoder_has_no_model_that_predicts(folder, capsys):
    words = ["tune", "--max-steps", "3", "--trials", "1", "--sampler", "random"]
    assert main(words) == 0
    assert "autoencoder; --task classification makes one that predicts" in capsys.readouterr().out
    assert main([*words, "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] is None
    write(folder, rows(lambda k: f"{k * k},{k % 3},{k % 7}"))
    assert main([*words, "--data", "data.csv"]) == 0
    assert "no model is saved of an autoencoder; --target COLUMN" in capsys.readouterr().out
    assert not list(folder.glob("runs/*.pt"))


def messy(folder, rows=200):
    """A table as people have them: ids, dates, missing values, text, a rare class."""
    number = np.arange(rows)
    frame = pd.DataFrame(
        {
            "id": number,
            "seen": [f"{1 + k % 28:02}.{1 + k % 12:02}.2024" for k in number],
            "x": RNG.normal(size=rows),
            "colour": RNG.choice(["red", "green", "blue"], rows),
            "town": RNG.choice([f"town {k}" for k in range(40)], rows),
            "remark": [f"this is what they said {k}" for k in number],
            "outcome": np.where(number < 2, "odd", RNG.choice(["good", "bad"], rows)),
        }
    )
    frame.loc[::5, "x"] = None
    frame.loc[3::9, "colour"] = None
    frame.loc[7::50, "outcome"] = None
    frame.to_csv(folder / "messy.csv", index=False)
    return frame


def test_a_messy_table_becomes_a_model_that_predicts_its_rows(folder, capsys):
    frame = messy(folder)
    words = ["--data", "messy.csv", "--target", "outcome", "--class-weight", "balanced"]
    assert tune(*words, "--save", "mine.pt") == 0
    out = capsys.readouterr().out
    for told in (
        "196 rows: 118 to train, 39 to choose settings by, 39 held out for the test",
        "4 rows without a target are left out",
        "columns left out: id (row number); remark (text, which is not understood)",
        "missing values: x 40, colour 21; filled with the median of the training rows",
        "seen: read as %d.%m.%Y",
        "classes weigh alike in the training",
        "best kfac: fisherbo.KFAC(model, likelihood='categorical', lr=",
        "gradient boosting",
    ):
        assert told in out, out
    frame.drop(columns=["outcome", "id", "remark"]).iloc[::-1].to_csv("new.csv", index=False)
    assert main(["predict", "mine.pt", "--data", "new.csv", "--proba"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "outcome,p(bad),p(good),p(odd)"
    expected = load_model("mine.pt").predict(frame)[::-1]
    assert [line.split(",")[0] for line in lines[1:]] == expected.tolist()
    assert main(["predict", "mine.pt", "--data", "new.csv", "--out", "made/out.csv"]) == 0
    assert (folder / "made" / "out.csv").read_text().splitlines()[0] == "outcome"


def test_a_price_is_told_in_its_own_units(folder, capsys):
    x = RNG.normal(size=120)
    pd.DataFrame({"x": x, "price": 250_000 + 50_000 * x}).to_csv("houses.csv", index=False)
    words = ("--data", "houses.csv", "--target", "price", "--metric", "mae")
    assert tune(*words, "--max-steps", "60") == 0
    out = capsys.readouterr().out
    assert "RMSE and MAE are in units of price" in " ".join(out.split())
    assert "validation MAE at the end" in out
    model = load_model("runs/houses-regression.pt")
    assert 0 < model.scores["MAE"][0] < 50_000
    assert model.predict({"x": [0.0]})[0] == pytest.approx(250_000, abs=25_000)


REFUSED = [
    (["--drop", "nosuch"], "--drop 'nosuch' names no feature column"),
    (["--group", "nosuch"], "--group 'nosuch' names no feature column"),
    (["--metric", "auc"], "--metric of a classification is one of accuracy, balanced_accuracy"),
    (["--task", "autoencoder", "--save", "a.pt"], "--save is for models of a target"),
    (["--save", "."], "--save . cannot be written: it is a folder"),
    (["--timeout", "0"], "argument --timeout: must be a number greater than 0"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_choices_that_cannot_be_used(folder, capsys, words, message):
    assert message in refused(capsys, 2, "--data", "iris", *words)
    assert not (folder / "runs").exists()


def test_reasons_of_failed_trials_are_told_once(folder, capsys, monkeypatch):
    from fisherbo.errors import DivergedError
    from fisherbo.tuning import objective

    calls, fit = [], objective.fit

    def fails_twice(*args, **kwargs):
        calls.append(1)
        if len(calls) < 3:
            raise DivergedError("the loss is nan after 0 steps; lower lr")
        return fit(*args, **kwargs)

    monkeypatch.setattr(objective, "fit", fails_twice)
    assert tune("--data", "iris", "--trials", "3") == 0
    out = capsys.readouterr().out
    assert out.count("the loss is nan after 0 steps; lower lr") == 1
    assert "2 of 3 kfac trials failed: the loss is nan after 0 steps; lower lr" in out


def test_the_time_may_be_over_before_a_trial(folder, capsys):
    assert tune("--data", "iris", "--quiet", "--timeout", "1e-9") == 1
    assert "no trial of kfac is complete: the time was over before one began" in (
        capsys.readouterr().err
    )


PREDICT = [
    (["nosuch.pt", "--data", "iris.csv"], "no model at nosuch.pt: no such file"),
    (["iris.csv", "--data", "iris.csv"], "is not a checkpoint of fisherbo tune"),
    (["model.pt", "--data", "nosuch.csv"], "cannot read nosuch.csv: no such file"),
    (["model.pt", "--data", "other.csv"], "the rows lack sepal length (cm), sepal width (cm)"),
    (["model.pt", "--data", "iris.csv", "--out", "."], "--out . cannot be written"),
]


def test_predictions_that_cannot_be_made(folder, capsys):
    load_iris(as_frame=True).data.to_csv("iris.csv", index=False)
    write(folder, rows(lambda k: f"{k},1,2"), "other.csv")
    assert tune("--data", "iris", "--quiet", "--save", "model.pt") == 0
    capsys.readouterr()
    for words, message in PREDICT:
        assert main(["predict", *words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert message in captured.err
    frame = load_iris(as_frame=True).data.astype(object)
    frame.iloc[3, 0] = "many"
    frame.to_csv("iris.csv", index=False)
    assert main(["predict", "model.pt", "--data", "iris.csv"]) == 0
    assert capsys.readouterr().err == (
        "fisherbo: note: column 'sepal length (cm)': 1 of 150 cells are no numbers and count as "
        "missing\n"
    )


@pytest.mark.slow
def test_the_winners_curve_on_wine_stays_below_its_first_value(folder):
    assert main(["tune", "--data", "wine", "--trials", "5", "--quiet"]) == 0
    study = optuna.load_study(
        study_name="wine-classification-kfac", storage="sqlite:///runs/tune.db"
    )
    losses = study.best_trial.user_attrs["trace_loss"]
    assert max(losses[len(losses) // 10 :]) < losses[0]
    accuracy, low, high = load_model("runs/wine-classification.pt").scores["accuracy"]
    assert accuracy > 0.9 and low <= accuracy <= high
