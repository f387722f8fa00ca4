"""The wheel, built from the tree and installed by pip in a clean environment without the tree."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = re.compile(r"(_?editable|__editable|fisherbo|plotly|pandas|pyarrow|tensorboard)", re.I)

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


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A clean environment that has the wheel and fisherbo's dependencies but no extra's."""
    home = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", home, cwd=ROOT)
    (wheel,) = home.glob("fisherbo-*.whl")
    venv.create(home / "env", with_pip=False)
    python = home / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    call(*pip, "install", "-q", "--no-index", "--no-deps", wheel, cwd=home)
    view = home / "dependencies"
    view.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not ABSENT.match(entry.name) and entry.suffix != ".pth":
            (view / entry.name).symlink_to(entry)
    (own,) = (home / "env" / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(f"{view}\n")
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


def test_the_first_snippet_of_the_readme_runs(home):
    snippet = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    said = python(home, snippet).stdout
    assert "x" in said


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
