"""Options that several experiments share, each with one name and one help text."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHARED: Mapping[str, Mapping[str, Any]] = {
    "data": {"type": Path, "help": "folder of YAHPO's scenarios; or by the variable YAHPO_DATA"},
    "dev": {"action": "store_true", "help": "only what methods are tuned on"},
    "problems": {"nargs": "+", "help": "only these"},
    "seeds": {"type": int, "nargs": "+", "help": "only these"},
    "workers": {
        "type": int,
        "default": os.cpu_count() or 1,
        "help": "processes for the runs",
    },
    "untimed": {"action": "store_true", "help": "keep no times, as other programs share the cores"},
    "again": {"action": "store_true", "help": "make kept rows anew"},
    "kept": {"action": "store_true", "help": "report kept rows, make no others"},
    "write": {"action": "store_true", "help": "write the report to experiments/results"},
    "ship": {"action": "store_true", "help": "copy to experiments/results/traces, then stop"},
}


def command_line(
    name: str, doc: str | None, shared: str = "", *, quick: str | None = None
) -> argparse.ArgumentParser:
    """The parser of the command line of experiments.NAME.

    Args:
        name: Of the module.
        doc: Its docstring, which heads the help.
        shared: Names of those of `SHARED` that it has, separated by blanks.
        quick: What its option ``--quick`` does; without it, it has none.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if quick is not None:
        made.add_argument("--quick", action="store_true", help=quick)
    for option in shared.split():
        made.add_argument(f"--{option}", **SHARED[option])
    return made
