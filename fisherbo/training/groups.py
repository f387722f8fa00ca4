"""Parameter groups of K-FAC: whole layers, chosen by the names of modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fisherbo.errors import InvalidInputError
from fisherbo.training.coverage import Layer
from fisherbo.training.settings import check_settings

OWN = ("lr", "damping", "momentum", "weight_decay")


def parameter_groups(
    layers: Sequence[Layer], settings: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[Layer, int]]:
    """Groups for `torch.optim.Optimizer`, and the index of each layer's group.

    Group 0 holds the layers that no other group names; group i those of ``groups[i − 1]``.

    Args:
        layers: The covered layers.
        settings: Of group 0, and of the others where they set nothing else.
        groups: Each has ``"modules"``, names of modules (those inside them included), and some of
            lr, damping, momentum and weight_decay.

    Raises:
        InvalidInputError: If a group has other keys, breaks a rule, names nothing that is covered,
            or a layer is in two groups.
    """
    index_of = dict.fromkeys(layers, 0)
    found = [{"params": [], **settings}]
    for index, group in enumerate(groups, 1):
        own = {key: value for key, value in group.items() if key != "modules"}
        unknown = sorted(own.keys() - set(OWN))
        if unknown or "modules" not in group:
            raise InvalidInputError(
                f"groups[{index - 1}] must have modules and only {', '.join(OWN)} besides, got "
                f"{', '.join(map(str, group))}"
            )
        check_settings(own)
        for name in group["modules"]:
            named = [layer for layer in layers if _within(layer.name, name)]
            if not named:
                raise InvalidInputError(
                    f"groups[{index - 1}] must name modules that K-FAC covers, got {name!r}; they "
                    f"are {', '.join(layer.name for layer in layers)}"
                )
            for layer in named:
                if index_of[layer] not in (0, index):
                    raise InvalidInputError(
                        f"module {layer.name!r} must be in one group, got it in "
                        f"groups[{index_of[layer] - 1}] and groups[{index - 1}]"
                    )
                index_of[layer] = index
        found.append({"params": [], **settings, **own})
    for layer, index in index_of.items():
        found[index]["params"] += layer.parameters
    return found, index_of


def _within(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")
