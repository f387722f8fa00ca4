"""AdamW for the parameters that K-FAC does not cover, on the state and the group of K-FAC.

The group's ``"lr"`` is a learning rate of K-FAC, as in all groups; AdamW's is ``"lr"`` times
``"adamw_ratio"``. So a scheduler that writes one value into all groups (OneCycleLR, CyclicLR) or a
loop that does (``group["lr"] = ...``) changes both in proportion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError

RATIO = "adamw_ratio"

_LR = 0.1  # a usual one of K-FAC, for the ratio where training begins with lr=0


class Fallback:
    """AdamW whose parameter group and state are those of another optimizer.

    Args:
        model: The network.
        covered: Its parameters that are trained otherwise.
        lr: Learning rate where that of the other optimizer is ``other_lr``.
        weight_decay: Decoupled weight decay.
        other_lr: The other optimizer's learning rate; 0 stands for .1.
    """

    def __init__(
        self,
        model: nn.Module,
        covered: Collection[Tensor],
        lr: float,
        weight_decay: float,
        other_lr: float,
    ) -> None:
        known = set(covered)
        rest = [parameter for parameter in model.parameters() if parameter not in known]
        self._adamw = None
        if rest:
            self._adamw = torch.optim.AdamW(rest, lr=other_lr, weight_decay=weight_decay)
            self._adamw.param_groups[0][RATIO] = lr / (other_lr or _LR)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Its parameter group, if any parameter is left to it."""
        return [] if self._adamw is None else self._adamw.param_groups

    def initial_state(self) -> dict[Tensor, dict[str, Tensor]]:
        """What AdamW keeps of each parameter that is not frozen before the first step."""
        return {
            parameter: {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            for group in self.groups
            for parameter in group["params"]
            if parameter.requires_grad
        }

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse a saved group whose learning rate is AdamW's own.

        Raises:
            InvalidInputError: If it is one, as it was written by earlier versions.
        """
        if self._adamw is not None and RATIO not in group:
            raise InvalidInputError(
                f"the last of param_groups must have {RATIO!r}, AdamW's learning rate divided by "
                "'lr', which is that of K-FAC in all groups, got a state without it; set "
                f"{RATIO!r} and 'lr' (and 'initial_lr', and base_lrs of a scheduler's state) in it"
            )

    def step(self, groups: list[dict[str, Any]], state: Any) -> None:
        """Take a step with the group (the last of ``groups``) and the state of the owner."""
        if self._adamw is not None:
            group = groups[-1]
            self._adamw.param_groups = [{**group, "lr": group["lr"] * group[RATIO]}]
            self._adamw.state = state
            self._adamw.step()
