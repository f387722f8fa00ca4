"""What a result was made with: the date, the source, the versions and the processor."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[1]
PACKAGES = ("numpy", "scipy", "torch", "optuna", "botorch", "scikit-learn", "gymnasium", "greenlet")


def stamp() -> str:
    """A paragraph for the head of a result file."""
    made = datetime.now(UTC).date()
    return (
        f"Written on {made}; source of fisherbo {source_digest('')}, of the experiments "
        f"{_digest([EXPERIMENTS])}; Python {platform.python_version()}, {versions()}; "
        f"{processor()}, {os.cpu_count()} cores."
    )


def versions() -> str:
    """Of the installed packages that results depend on."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


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
    files = sorted(p for place in places for p in _python_files(place))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]


def _python_files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else list(path.rglob("*.py"))
    if not found:
        raise FileNotFoundError(f"no source to digest at {path}; was it renamed?")
    return found
