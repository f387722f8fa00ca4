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

from fisherbo.cli import main

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
    ("data.csv", rows(lambda k: f"{k},2"), "20 values are missing, in y (20)"),
    ("data.csv", rows(lambda k: f"{k},{'' if k < 3 else 1},2"), "3 values are missing, in b (3)"),
    ("data.csv", rows(lambda k: f"{k},nan,2"), "20 values are missing, in b (20)"),
    ("data.csv", rows(lambda k: f"{k},{'inf' if k < 2 else 1},{k}"), "2 values are infinite"),
    ("data.csv", rows(lambda k: f"{k},1e39,{k}"), "beyond float32, in b (20)"),
    ("data.csv", rows(lambda k: f"{k},word{k},{k}", count=30), "column 'b' is not numeric"),
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
    ("data.csv", rows(lambda k: f"2020-01-{k + 1:02},1,{k}"), "column 'a' is not numeric"),
    (
        "data.csv",
        rows(lambda k: f"{1234567890123456789 + k},1,{k}"),
        "20 distinct whole numbers of column 'a', such as 1234567890123456789, are 1 in float64",
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
    ("data.csv", rows(lambda k: "1,1," + str(k)), "no feature varies"),
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
        if len(calls) == 2:
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
        assert "12 of 12 trials" in err and "best parameters" in out


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
