"""Names in messages: the known one that is nearest to a wrong one, and lists of them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from fisherbo.errors import InvalidInputError

MAX_LISTED = 12


def listed(words: Sequence[str]) -> str:
    """The words between commas; of many, the first ones and how many more."""
    more = len(words) - MAX_LISTED
    return ", ".join(words[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def suggestion(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the known word nearest to `word`, or nothing."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def require_known(kind: str, word: str, known: Collection[str]) -> None:
    """Pass if the word is one of those.

    Raises:
        InvalidInputError: it is not; the error names the nearest of them.
    """
    if word not in known:
        raise InvalidInputError(
            f"unknown {kind} {word!r}{suggestion(word, known)}; known are {', '.join(known)}"
        )
