"""AdamW for the parameters that K-FAC does not cover, on the state and the group of K-FAC."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Fallback:
    """AdamW whose parameter group and state are those of another optimizer.

    Args:
        model: The network.
        covered: Its parameters that are trained otherwise.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
    """

    def __init__(
        self, model: nn.Module, covered: Collection[Tensor], lr: float, weight_decay: float
    ) -> None:
        self._lr, self._weight_decay = lr, weight_decay
        self._taken: torch.optim.AdamW | None = None
        known = set(covered)
        rest = [parameter for parameter in model.parameters() if parameter not in known]
        self._adamw = torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay) if rest else None

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Its parameter group, if any parameter is left to it."""
        return [] if self._adamw is None else self._adamw.param_groups

    def initial_state(self) -> dict[Tensor, dict[str, Tensor]]:
        """What AdamW keeps of each parameter of its group before the first step."""
        return initial_moments([p for group in self.groups for p in group["params"]])

    def take(self, parameters: Sequence[Tensor]) -> None:
        """Train these too, which stay in other groups; in place of those taken before."""
        self._taken = None
        if parameters:
            self._taken = torch.optim.AdamW(
                parameters, lr=self._lr, weight_decay=self._weight_decay
            )

    def step(
        self, groups: list[dict[str, Any]], state: Any, scale: float = 1.0, share: float = 1.0
    ) -> None:
        """Take a step with the group (the last of ``groups``) and the state of the owner.

        Args:
            groups: All of the owner's.
            state: The owner's.
            scale: Of the learning rate of what was taken, where there is no group of its own.
            share: Of all learning rates, in this step.
        """
        if self._adamw is not None:
            self._adamw.param_groups = [{**groups[-1], "lr": share * groups[-1]["lr"]}]
            self._adamw.state = state
            self._adamw.step()
        if self._taken is not None:
            own = self._lr * scale if self._adamw is None else groups[-1]["lr"]
            self._taken.param_groups[0]["lr"] = share * own
            self._taken.state = state
            self._taken.step()


def initial_moments(parameters: Iterable[Tensor]) -> dict[Tensor, dict[str, Tensor]]:
    """AdamW's state of parameters before the first step."""
    return {
        parameter: {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        for parameter in parameters
    }
