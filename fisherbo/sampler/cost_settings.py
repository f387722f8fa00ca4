"""What a user tells of the cost of trials."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CostSettings:
    """What a trial costs, and how much may be spent.

    Attributes:
        name: User attribute of a trial with its cost; "seconds" also stands for its duration.
        budget: What all trials may cost together; None if there is no limit.
    """

    name: str
    budget: float | None = None
