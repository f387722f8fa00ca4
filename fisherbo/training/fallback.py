"""AdamW for the parameters that K-FAC does not cover, on the state and the group of K-FAC.

The group's ``"lr"`` is a learning rate of K-FAC, as in all groups; AdamW's is ``"lr"`` times
``"adamw_ratio"``. So a scheduler that writes one value into all groups (OneCycleLR, CyclicLR) or a
loop that does (``group["lr"] = ...``) changes both in proportion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError

RATIO = "adamw_ratio"


class Fallback:
    """AdamW whose parameter group and state are those of another optimizer.

    Args:
        model: The network.
        covered: Its parameters that are trained otherwise.
        lr: Learning rate where that of the other optimizer is ``other_lr``.
        weight_decay: Decoupled weight decay.
        other_lr: The other optimizer's learning rate.
        usual_lr: What stands for one of 0, at which a warm-up may begin.
    """

    def __init__(
        self,
        model: nn.Module,
        covered: Collection[Tensor],
        lr: float,
        weight_decay: float,
        other_lr: float,
        usual_lr: float,
    ) -> None:
        self._lr, self._weight_decay = other_lr, weight_decay
        self._ratio = lr / (other_lr or usual_lr)
        self._taken: torch.optim.AdamW | None = None
        known = set(covered)
        self._adamw = self._built([p for p in model.parameters() if p not in known])

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Its parameter group, if any parameter is left to it."""
        return [] if self._adamw is None else self._adamw.param_groups

    def initial_state(self) -> dict[Tensor, dict[str, Tensor]]:
        """What AdamW keeps of each parameter that is not frozen before the first step."""
        parameters = (p for group in self.groups for p in group["params"])
        return initial_moments(p for p in parameters if p.requires_grad)

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

    def take(self, parameters: Sequence[Tensor]) -> None:
        """Train these too, which stay in other groups; in place of those taken before."""
        self._taken = self._built(parameters)

    def step(self, groups: Sequence[dict[str, Any]], state: Any, share: float = 1.0) -> None:
        """Take a step with the groups and the state of the owner.

        What was taken has the learning rate of the own group (the last one), or the same ratio to
        that of the first group if there is no own one.

        Args:
            groups: All of the owner's.
            state: The owner's.
            share: Of the learning rates, in this step.
        """
        if self._adamw is not None:
            group = groups[-1]
            self._adamw.param_groups = [{**group, "lr": share * group["lr"] * group[RATIO]}]
            self._adamw.state = state
            self._adamw.step()
        if self._taken is not None:
            group = groups[-1 if self._adamw is not None else 0]
            rate = group["lr"] * group.get(RATIO, self._ratio)
            self._taken.param_groups[0]["lr"] = share * rate
            self._taken.state = state
            self._taken.step()

    def _built(self, parameters: Sequence[Tensor]) -> torch.optim.AdamW | None:
        if not parameters:
            return None
        adamw = torch.optim.AdamW(parameters, lr=self._lr, weight_decay=self._weight_decay)
        adamw.param_groups[0][RATIO] = self._ratio
        return adamw


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
