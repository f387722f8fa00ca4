"""A real Ray Tune experiment of two workers, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins" / "ray"


def test_the_readme_shows_the_example():
    (shown,) = re.findall(r"```python\n(.*?)```", (PLUGIN / "README.md").read_text(), re.DOTALL)
    compile(shown, "README.md", "exec")
    example = (PLUGIN / "example.py").read_text()
    for statement in ("def train", "space =", "search_alg=", "reuse_actors="):
        (line,) = [line.strip() for line in shown.splitlines() if statement in line]
        assert line in example


@pytest.mark.slow
def test_two_workers_find_the_optimum_of_a_nested_space(tmp_path):
    path = os.pathsep.join([str(ROOT), str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    made = subprocess.run(
        [sys.executable, str(PLUGIN / "example.py"), "12"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    said = json.loads(made.stdout.splitlines()[-1])
    assert said["trials"] == 12
    assert said["errors"] == 0
    assert said["config"]["model"]["depth"] == 3
    assert said["loss"] < 0.1
