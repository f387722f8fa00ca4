"""What a result was made with: the date, the source, the versions and the processor."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[1]
PACKAGES = ("numpy", "scipy", "torch", "optuna", "botorch", "scikit-learn", "gymnasium", "greenlet")


def stamp() -> str:
    """A paragraph for the head of a result file."""
    made = datetime.now(UTC).date()
    versions = ", ".join(f"{p} {found}" for p in PACKAGES if (found := installed(p)))
    return (
        f"Written on {made}; source of fisherbo {source_digest('')}, of the experiments "
        f"{_digest([EXPERIMENTS])}; Python {platform.python_version()}, {versions}; "
        f"{processor()}, {os.cpu_count()} cores."
    )


def installed(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def not_installed(what: str, package: str) -> str | None:
    """One line that says that something needs a package that is not installed; None if it is."""
    if installed(package):
        return None
    return f"{what}: not installed; pip install -c constraints.txt {package}"


def processor() -> str:
    """Model of the CPU."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def source_digest(*parts: str) -> str:
    """A digest of fisherbo's source in these files and folders."""
    root = Path(__file__).parents[2] / "fisherbo"
    return _digest([root / part for part in parts])


def _digest(places: Sequence[Path]) -> str:
    found = [[place] if place.is_file() else list(place.rglob("*.py")) for place in places]
    if not all(found):
        raise FileNotFoundError(f"no source to digest at one of {places}; was it renamed?")
    content = b"".join(file.read_bytes() for file in sorted(chain(*found)))
    return hashlib.sha256(content).hexdigest()[:12]
