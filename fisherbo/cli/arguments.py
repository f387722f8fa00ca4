"""What the commands' arguments have in common: a parser of one-line errors, and kinds of values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

from fisherbo.errors import InvalidInputError

N = TypeVar("N", int, float)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `InvalidInputError`, one line without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        raise InvalidInputError(f"{message}; see {self.prog} --help")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add ``-f``: text for people, or JSON for programs, on standard output."""
    parser.add_argument(
        "-f", "--format", default="text", choices=["text", "json"],
        help="what standard output is (default: text); in JSON, infinities and NaN are null",
    )  # fmt: skip


def names(text: str) -> list[str]:
    """Words between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return _number(text, int, lambda value: value >= 1, "a whole number of at least 1")


def seed(text: str) -> int:
    """A whole number of at least 0."""
    return _number(text, int, lambda value: value >= 0, "a whole number of at least 0")


def positive_float(text: str) -> float:
    """A finite number greater than 0."""
    return _number(text, float, lambda v: v > 0 and not math.isinf(v), "a number greater than 0")


def widths(text: str) -> list[int]:
    """Whole numbers of at least 1 between commas."""
    return [positive_int(word) for word in text.split(",")]


def _number(text: str, kind: Callable[[str], N], holds: Callable[[N], bool], rule: str) -> N:
    try:
        value = kind(text)
        if holds(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")
