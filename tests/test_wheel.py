"""The wheel, built from the tree and installed by pip in clean environments without the tree.

An environment has what the wheel's metadata asks for, with the extras of a test, what that needs in
turn, and nothing else: a package that is used but not declared is not there.
"""

import os
import re
import shlex
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

READ = """
from pathlib import Path
from fisherbo.tuning.files import read_frame
read_frame(Path("data.csv"), None)
"""

pytestmark = pytest.mark.slow


def call(*command, cwd, expect=0):
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    made = subprocess.run(
        list(map(str, command)), cwd=cwd, env=keep, capture_output=True, text=True, check=False
    )
    assert made.returncode == expect, made.stdout[-1000:] + made.stderr[-2000:]
    return made


def needed(texts, extras, found):
    """The distributions that requirements lead to, by name, as they are installed here."""
    for text in texts:
        wanted = Requirement(text)
        marker = wanted.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        if not {(wanted.name, extra) for extra in ("", *wanted.extras)} <= found.keys():
            installed = metadata.distribution(wanted.name)
            found |= {(wanted.name, extra): installed for extra in ("", *wanted.extras)}
            needed(installed.requires or [], wanted.extras, found)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("fisherbo-*.whl")
    return wheel


def environment(wheel, home, *extras):
    """A folder with an environment that has the wheel with some extras and what these need."""
    venv.create(home / "env", with_pip=False)
    python = home / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    call(*pip, "install", "-q", "--no-index", "--no-deps", wheel, cwd=home)
    (own,) = (home / "env" / "lib").glob("python*/site-packages")
    (ours,) = metadata.distributions(name="fisherbo", path=[str(own)])
    for installed in needed(ours.requires, extras, {}).values():
        for top in {path.parts[0] for path in installed.files} - {"..", "__pycache__"}:
            if not (own / top).exists():
                (own / top).symlink_to(installed.locate_file(top))
    return home


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """An environment without extras."""
    return environment(wheel, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def extended(wheel, tmp_path_factory):
    """One with the extras that the README's quick starts name, and a table of houses."""
    home = environment(wheel, tmp_path_factory.mktemp("extended"), "sklearn", "plot")
    rows = [(i % 7, 30 + i * 17 % 90) for i in range(120)]
    lines = [f"{rooms},{area},{20 * rooms + area}" for rooms, area in rows]
    (home / "houses.csv").write_text("\n".join(["rooms,area,price", *lines]))
    return home


def python(home, code, expect=0):
    return call(home / "env" / "bin" / "python", "-c", code, cwd=home, expect=expect)


def test_it_is_imported_from_the_environment_alone_and_quickly(home):
    code = "import fisherbo, sys; print(fisherbo.__file__); print('torch' in sys.modules)"
    where, torch = python(home, code).stdout.split()
    assert Path(where).is_relative_to(home / "env")
    assert torch == "False"


def test_it_has_types_and_a_licence_but_no_tests(home):
    (own,) = (home / "env" / "lib").glob("python*/site-packages")
    assert (own / "fisherbo" / "py.typed").exists()
    assert list(own.glob("fisherbo-*.dist-info/licenses/LICENSE"))
    for name in ("tests", "experiments", "plugins"):
        assert not (own / name).exists()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", [0, 2])
def test_a_quick_start_of_the_readme_needs_no_extra(home, number):
    assert python(home, blocks("python")[number]).stdout


def test_the_quick_start_for_scikit_learn_needs_its_extra_alone(extended):
    score, _, best = python(extended, blocks("python")[1]).stdout.partition(" ")
    assert float(score) > 0.9
    assert "svc__C" in best


def test_the_quick_start_of_the_shell_runs_as_printed(extended):
    (line,) = re.findall(r"`(fisherbo tune --data[^`]*)`", README)
    block = next(block for block in blocks("sh") if "fisherbo ask" in block)
    for printed in (*block.splitlines(), f"{line} --trials 2 --max-seconds 1"):
        words = shlex.split(printed, comments=True)
        said = call(extended / "env" / "bin" / words[0], *words[1:], cwd=extended)
        assert said.stdout
    assert (extended / "mine.html").stat().st_size > 10_000
    assert "held out for the test" in said.stdout


PREPARED = """
import math, optuna, fisherbo
from fisherbo import FisherSampler
from sklearn.svm import SVC  # scikit-learn comes with GPyTorch

optuna.logging.set_verbosity(optuna.logging.ERROR)
table = [{"lr": 10.0**-k, "size": size} for k in range(1, 5) for size in "sml"]


def objective(trial):
    lr = trial.suggest_float("lr", 1e-5, 1, log=True)
    size = trial.suggest_categorical("size", ["s", "m", "l"])
    trial.set_user_attr("seconds", 300)
    for step in range(1, 11):
        trial.report((math.log10(lr) + 3) ** 2 + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return (math.log10(lr) + 3) ** 2 + 0.1 * "sml".index(size)


def tuned(objective=objective, trials=15, callbacks=(), **settings):
    study = optuna.create_study(**{"sampler": FisherSampler(seed=0), **settings})
    study.optimize(objective, n_trials=trials, callbacks=callbacks)
    return study
"""
CASES = {  # the row that has these words: what a user would write with it, and what must hold then
    "candidates=": ("tuned({code}, trials=12)", "all(t.params in table for t in study.trials)"),
    "priors=": ("tuned({code}, trials=1)", "math.isclose(study.best_params['lr'], 1e-3)"),
    "budget=": ("tuned({code}, trials=20)", "len(study.trials) == 12"),
    "categories=": ("tuned({code})", "study.best_params['size'] == 's'"),
    "suggest_simplex(": (
        "tuned(lambda trial: sum(w**2 for w in {code}.values()), trials=25)",
        "abs(study.best_value - 1 / 3) < 1e-3",
    ),
    "suggest(": ("tuned(lambda trial: {code}['C'])", "'kernel' in study.best_params"),
    "StopWhenConverged": ("tuned({code}, trials=100)", "20 <= len(study.trials) < 100"),
    "FisherPruner": (
        "tuned({code}, trials=25)",
        "'PRUNED' in {trial.state.name for trial in study.trials}",
    ),
}


def cases():
    """What the rows of "Your case" print in their last columns."""
    rows = README.partition("\n## Your case\n")[2].partition("\n## ")[0].splitlines()
    return [row.rsplit(" | ", 1)[1] for row in rows if row.endswith("` |")]


def test_every_case_of_the_readme_is_run():
    assert len(cases()) == len(CASES)


@pytest.mark.parametrize("words", CASES)
def test_a_case_of_the_readme_does_what_it_says(home, words):
    (cell,) = (cell for cell in cases() if words in cell)
    code = ", ".join(re.findall("`(.*?)`", cell))
    call, holds = CASES[words]
    code = call.format(code=re.sub("^FisherSampler", "sampler=FisherSampler", code))
    python(
        home, f"{PREPARED}\nstudy = {code}\nassert {holds}, (len(study.trials), study.best_trial)"
    )


def test_the_command_is_installed(home):
    fisherbo = home / "env" / "bin" / "fisherbo"
    assert "tune" in call(fisherbo, "--help", cwd=home).stdout


@pytest.mark.parametrize(
    ("code", "package", "extra"),
    [
        (READ, "pandas", "sklearn"),
        (
            "from fisherbo.training import TensorBoard; TensorBoard('logs')",
            "tensorboard",
            "logging",
        ),
    ],
)
def test_what_is_missing_names_its_extra_in_one_line(home, code, package, extra):
    (home / "data.csv").write_text("a,b\n1,2\n")
    last = python(home, code, expect=1).stderr.splitlines()[-1]
    assert last == (
        f"fisherbo.errors.MissingExtraError: {package} is not installed; "
        f"install it with: pip install 'fisherbo[{extra}]'"
    )


def test_the_command_says_so_in_one_line_too(home):
    (home / "data.csv").write_text("a,b\n1,2\n")
    fisherbo = home / "env" / "bin" / "fisherbo"
    said = call(fisherbo, "tune", "--data", "data.csv", cwd=home, expect=2)
    assert said.stderr.strip().count("\n") == 0
    assert "pip install 'fisherbo[sklearn]'" in said.stderr
