"""`fisherbo ask` and `fisherbo report` on studies in a file, with Optuna's own commands beside."""

import json
import re
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import optuna
import pytest

import fisherbo
from fisherbo.cli import main
from fisherbo.cli.output import print_json
from fisherbo.tuning.storage import open_storage

STORAGE = "sqlite:///mine.db"
SPACE = '{"x": {"name": "FloatDistribution", "attributes": {"low": 0, "high": 2, "log": false}}}'
PARAMS = ["-p", "x=-5:5", "-p", "lr=1e-5:1:log", "-p", "n=1:20:int", "-p", "k=a,b"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verbosity = optuna.logging.get_verbosity()
    yield tmp_path
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture
def study():
    return optuna.create_study(study_name="mine", storage=STORAGE)


def objective(trial):
    return (trial.suggest_float("x", -5, 5) - 1) ** 2 + trial.suggest_float("y", 0, 1)


def refused(capsys, *words, code=2):
    assert main(list(words)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_ask_gives_the_sampler_s_trial_and_optuna_tells_it(study, capsys):
    assert main(["ask", "mine", "--storage", STORAGE, *PARAMS, "-f", "json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["number"] == 0
    assert set(first["params"]) == {"x", "lr", "n", "k"}
    assert isinstance(first["params"]["n"], int) and first["params"]["k"] in ("a", "b")
    optuna_command = Path(sys.executable).with_name("optuna")
    told = [optuna_command, "tell", "--storage", STORAGE, "--study-name", "mine"]
    subprocess.run([*told, "--trial-number", "0", "--values", "0.3"], check=True)
    assert main(["ask", "mine", "--storage", STORAGE]) == 0  # the study knows its parameters
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trial 1"
    assert [line.split()[0] for line in lines[1:]] == ["x", "lr", "n", "k"]
    assert study.trials[0].value == 0.3
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]


def test_ask_is_the_sampler_with_the_same_seed(study, capsys):
    study.sampler = fisherbo.FisherSampler(seed=7)
    study.optimize(objective, n_trials=12)
    twin = optuna.create_study(sampler=fisherbo.FisherSampler(seed=7))
    twin.add_trials(study.trials)
    assert main(["ask", "mine", "--storage", STORAGE, "--seed", "7", "-f", "json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["params"]
        == twin.ask(study.trials[0].distributions).params
    )


def test_ask_takes_optuna_s_search_space(study, capsys):
    assert main(["ask", "mine", "--storage", STORAGE, "--search-space", SPACE, "-f", "json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["params"]["x"] <= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "must have a trial that tells its parameters, got none; give them with -p"),
        (["-p", "x"], "must be NAME=RANGE such as x=-5:5, got 'x'"),
        (["-p", "x=5:1"], "must be a range, got 'x=5:1'"),
        (["-p", "x=0:1:log"], "must be a range, got 'x=0:1:log'"),
        (["-p", "x=1:2:cubed"], "must end with :log, :int or both"),
        (["-p", "x=nan:1"], "must be a range, got 'x=nan:1': bounds must be finite"),
        (["-p", "x=0:inf"], "bounds must be finite, got 0.0 and inf"),
        (["-p", "x=-1e308:1e308"], "bounds must be finite"),
        (["-p", "n=1:99999999999999999999:int"], "must be within ±2^53"),
        (["-p", "k=a,,b"], "must have choices that differ and are not empty, got 'k=a,,b'"),
        (["-p", "k=a,b,a"], "must have choices that differ"),
        (["-p", "x=0:1", "-p", "x=0:2"], "parameter 'x' must be given once, got it twice"),
        (["--search-space", "[1]"], "must be JSON of Optuna's distributions by name"),
        (["--search-space", SPACE.replace("2", "NaN")], "bounds must be finite, got 0.0 and nan"),
        (["--search-space", SPACE, "-p", "x=0:1"], "parameter 'x' must be given once"),
    ],
)
def test_ask_what_cannot_be_asked(study, capsys, words, message):
    assert message in refused(capsys, "ask", "mine", "--storage", STORAGE, *words)
    assert study.trials == []


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("x=1:5:int", "IntDistribution"),
        ("x=1:5:log", "FloatDistribution.*log=True"),
        ("x=1", "CategoricalDistribution"),
        ("k=a,b,c", "CategoricalDistribution"),
        ("k=0:1", "FloatDistribution"),
        ("n=1:20", "FloatDistribution"),
    ],
)
def test_ask_for_another_kind_of_parameter_makes_no_trial(study, capsys, spec, kind):
    assert main(["ask", "mine", "--storage", STORAGE, *PARAMS]) == 0
    capsys.readouterr()
    line = refused(capsys, "ask", "mine", "--storage", STORAGE, "-p", "new=0:1", "-p", spec)
    assert re.search(f"must be as in trial 0 of study 'mine', .*, got {kind}", line)
    assert len(study.trials) == 1
    assert main(["ask", "mine", "--storage", STORAGE, "-p", "x=-9:9", "-p", "k=a,b"]) == 0
    assert len(study.trials) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_ask_that_fails_leaves_no_running_trial(study, monkeypatch, error):
    def fails(*args):
        raise error

    monkeypatch.setattr(fisherbo.FisherSampler, "sample_relative", fails)
    words = ["ask", "mine", "--storage", STORAGE, *PARAMS]
    if error is KeyboardInterrupt:
        assert main(words) == 130
    else:
        with pytest.raises(error):
            main(words)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


@pytest.mark.parametrize("command", ["ask", "report"])
def test_studies_that_are_not_there(study, capsys, command):
    line = refused(capsys, command, "yours", "--storage", STORAGE)
    assert "study 'yours' must be in sqlite:///mine.db, got mine" in line
    line = refused(capsys, command, "mine", "--storage", "sqlite:///other.db")
    assert "got no file other.db" in line
    assert not Path("other.db").exists()


def test_report_writes_the_page_and_the_summary(study, capsys, folder):
    study.optimize(objective, n_trials=15)
    assert main(["report", "mine", "--storage", STORAGE, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["value"] == study.best_value
    assert found["report"] == "mine.html"
    assert (folder / "mine.html").stat().st_size > 1e6
    words = ["--output", "new/page.html", "--dashboard", "--value", "error in m"]
    assert main(["report", "mine", "--storage", STORAGE, *words]) == 0
    out = capsys.readouterr().out
    assert "report: new/page.html" in out and out.startswith("study")
    assert "error in m" in (folder / "new" / "page.html").read_text()
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert any("fisherbo-posterior" in key for key in attributes)


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_report_of_infinite_values_is_json(folder, capsys, directions):
    study = optuna.create_study(study_name="mine", storage=STORAGE, directions=directions)
    values = [float("inf")] * len(directions)
    study.optimize(lambda t: [v + t.suggest_float("x", 0, 1) for v in values], n_trials=3)
    assert main(["report", "mine", "--storage", STORAGE, "-f", "json"]) == 0
    found = strict_json(capsys.readouterr().out)
    best = found["best"] if len(directions) == 1 else found["pareto_front"][0]
    assert best["value"] == (None if len(directions) == 1 else [None, None])


def test_json_has_no_infinity_and_no_nan(capsys):
    print_json({"a": [float("nan"), (1.5, float("-inf"))], "b": {"c": float("inf"), "d": None}})
    found = strict_json(capsys.readouterr().out)
    assert found == {"a": [None, [1.5, None]], "b": {"c": None, "d": None}}


def strict_json(text):
    def refuse(constant):
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


def test_report_that_cannot_be_written_leaves_the_study_as_it_was(study, capsys, folder):
    study.optimize(objective, n_trials=3)
    (folder / "page.html").mkdir()
    words = ["report", "mine", "--storage", STORAGE, "--output", "page.html", "--dashboard"]
    assert "--output page.html cannot be written: it is a folder" in refused(capsys, *words)
    assert study._storage.get_study_system_attrs(study._study_id) == {}


def test_report_of_nothing(study, capsys):
    line = refused(capsys, "report", "mine", "--storage", STORAGE)
    assert "must have a complete trial, got none" in line


def test_help_of_every_command_shows_examples(capsys):
    for command in ("tune", "ask", "report", "rl"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"fisherbo {command} " in capsys.readouterr().out.split("examples:")[1]


# --- from nothing to a told trial, in any storage ---


@pytest.fixture
def proxied(folder):
    """A storage behind Optuna's gRPC proxy on loopback."""
    from optuna.storages._grpc.server import make_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    behind = optuna.storages.get_storage("sqlite:///behind.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = make_server(behind, "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def run_json(capsys, *words):
    assert main([*words, "-f", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("storage", ["new/mine.db", "journal:new/mine.log", "proxied"])
def test_a_study_is_created_asked_and_told(storage, capsys, request):
    if storage == "proxied":
        storage = request.getfixturevalue("proxied")
    made = ["--create", "--direction", "maximize"]
    asked = run_json(capsys, "ask", "mine", "--storage", storage, *made, *PARAMS)
    assert asked["number"] == 0 and set(asked["params"]) == {"x", "lr", "n", "k"}
    told = run_json(
        capsys, "tell", "mine", "--storage", storage, "--trial", "0", "--values", "0.25"
    )
    assert told == {"number": 0, "state": "complete", "values": [0.25]}
    assert run_json(capsys, "ask", "mine", "--storage", storage, "--create")["number"] == 1
    run_json(capsys, "tell", "mine", "--storage", storage, "--trial", "1", "--state", "fail")
    study = optuna.load_study(study_name="mine", storage=open_storage(storage, heartbeat=False))
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert study.best_params == asked["params"]


def test_a_dry_run_gives_the_next_trial_and_stores_nothing(study, capsys):
    study.sampler = fisherbo.FisherSampler(seed=0)
    study.optimize(objective, n_trials=12)
    before = Path("mine.db").read_bytes()
    dry = run_json(capsys, "ask", "mine", "--storage", STORAGE, "--dry-run", "--explain")
    assert Path("mine.db").read_bytes() == before
    assert dry["number"] is None
    (expected,) = dry["expected"]
    assert expected["low"] < expected["median"] < expected["high"]
    assert dry["reason"].startswith(("Exploitation:", "Refinement:", "Exploration:"))
    assert dry["expected_improvement"] > 0 and dry["probability_of_feasibility"] is None
    assert main(["ask", "mine", "--storage", STORAGE, "--dry-run", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trial 12 (dry run: not stored)"
    assert lines[-1] == dry["reason"]
    stored = run_json(capsys, "ask", "mine", "--storage", STORAGE, "--explain")
    assert stored == {**dry, "number": 12}


def test_a_dry_run_of_a_study_that_is_not_there_makes_no_file(folder, capsys):
    words = ["ask", "mine", "--storage", "new.db", "--create", "--dry-run", "--explain", *PARAMS]
    assert "Initial design" in run_json(capsys, *words)["reason"]
    assert list(folder.iterdir()) == []


def test_explained_parameters_that_the_study_does_not_have(study, capsys):
    study.optimize(objective, n_trials=11)
    words = ["ask", "mine", "--storage", STORAGE, "--explain", "-p", "z=0:1"]
    found = run_json(capsys, *words)
    assert set(found["params"]) == {"z"}
    assert found["expected"] == [] and "nothing is known of this one yet" in found["reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trial", "7", "--values", "1"], "has 2; trials under way: 1"),
        (["--trial", "0", "--values", "1"], "must be under way, got complete already"),
        (["--trial", "1", "--values", "1", "2"], "one for each objective, 1, got 2"),
        (["--trial", "1", "--values", "nan"], "must be numbers, got nan"),
        (["--trial", "1"], "--values is needed, or --state fail or pruned"),
        (["--trial", "1", "--values", "1", "--state", "fail"], "goes without --values"),
        (["--trial", "1", "--values", "one"], "invalid float value: 'one'"),
    ],
)
def test_what_cannot_be_told_changes_nothing(study, capsys, words, message):
    study.optimize(objective, n_trials=1)
    study.ask()
    assert message in refused(capsys, "tell", "mine", "--storage", STORAGE, *words)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--create", "--direction", "maximize"], "directions minimize, got --direction maximize"),
        (["--direction", "minimize"], "is of a study that is created; add --create"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_directions_of_a_study_that_is_there(study, capsys, words, message, dry):
    words = ["ask", "mine", "--storage", STORAGE, *words, *dry, *PARAMS]
    assert message in refused(capsys, *words)
    assert study.trials == []


def test_no_message_shows_a_password(capsys):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    pytest.importorskip("psycopg2")
    for command in (["ask"], ["report"], ["tell", "--trial", "0", "--values", "1"]):
        url = f"postgresql://ann:secret@127.0.0.1:{port}/studies"
        line = refused(capsys, command[0], "mine", "--storage", url, *command[1:], code=1)
        assert "ann:***@127.0.0.1" in line and "secret" not in line


HEAVY = ["torch", "scipy.stats", "scipy.optimize", "pandas", "sklearn", "matplotlib", "plotly"]


def imported(*words):
    """Those of the slow packages that the command imports in a fresh process."""
    code = (
        "import sys; from fisherbo.cli import main\n"
        "try: main(sys.argv[2:])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*[name for name in sys.argv[1].split() if name in sys.modules])"
    )
    names = " ".join([*HEAVY, "optuna", "numpy"])
    command = [sys.executable, "-c", code, names, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("trials", [2, 12])  # in the initial design, and with a model
@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_ask_imports_what_it_needs(study, trials, explain):
    study.optimize(objective, n_trials=trials)
    assert imported("ask", "mine", "--storage", STORAGE, *explain) == ["optuna", "numpy"]


def test_report_imports_no_torch(study):
    pytest.importorskip("plotly")
    study.optimize(objective, n_trials=12)
    found = imported("report", "mine", "--storage", STORAGE, "--output", "page.html")
    assert "torch" not in found and "plotly" in found


@pytest.mark.parametrize("words", [["--help"], ["ask", "--help"], ["--version"]])
def test_help_imports_neither_optuna_nor_numpy(words):
    assert imported(*words) == []
