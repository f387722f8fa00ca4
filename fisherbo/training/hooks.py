"""Forward hooks that outlive neither their optimizer nor a copy of their model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError


def single_tensor(outputs: object) -> Tensor:
    """The output of a model, if it is one tensor with a dimension.

    Raises:
        InvalidInputError: If it is not.
    """
    if not isinstance(outputs, Tensor):
        raise InvalidInputError(
            "the model's output must be one tensor of logits or means for a natural gradient, got "
            f"{type(outputs).__name__}; wrap the model so that it returns the tensor alone"
        )
    if outputs.ndim == 0:
        raise InvalidInputError(
            "the model's output must have a dimension of rows for a natural gradient, got a tensor "
            "of no dimension (squeeze() of a batch of one row?); use squeeze(-1), and let the loss "
            "be computed outside of the model"
        )
    return outputs


class _NotScriptable(InvalidInputError, AttributeError):
    """The name of a hook, which torch.jit.script asks for, is asked."""


class Hook:
    """A forward hook that keeps no capture alive and does nothing in a copy of the model.

    torch.compile leaves it out of its graphs, which break there; torch.export leaves it out.
    """

    def __init__(self, method: Callable[..., Any] | None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)
        self._outside_graph = None if method is None else torch.compiler.disable(_run)

    @property
    def idle(self) -> bool:
        """Whether it does nothing any more."""
        return self._method is None or self._method() is None

    def __call__(self, *args: Any) -> Any:
        """What the method returns, or ``None`` once its owner is gone."""
        if self._method is None or self._outside_graph is None or torch.compiler.is_exporting():
            return None
        if torch.compiler.is_compiling():
            return self._outside_graph(self._method, args)
        return _run(self._method, args)

    def __reduce__(self) -> tuple[type[Hook], tuple[None]]:
        return (Hook, (None,))

    @property
    def __name__(self) -> str:
        raise _NotScriptable(
            "torch.jit.script cannot compile the hooks of KFAC and NaturalGradient, got a model "
            "that has them; call remove_hooks() of the optimizer first, then copy or script it"
        )


def remove_idle_hooks(model: nn.Module) -> None:
    """Take off a model the hooks that copying left there, and those of optimizers that are gone."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [k for k, hook in hooks.items() if isinstance(hook, Hook) and hook.idle]:
                del hooks[key]
                for flags in (
                    module._forward_hooks_with_kwargs,
                    module._forward_pre_hooks_with_kwargs,
                ):
                    flags.pop(key, None)


def check_copied(owner: str, model: nn.Module) -> None:
    """Refuse the copy of an ``owner``, an optimizer, that is made within that of its own model.

    Raises:
        TypeError: If the model has the optimizer as an attribute, so that it is not whole yet.
    """
    if "_modules" not in vars(model):
        raise TypeError(
            f"a model that has its {owner} as an attribute cannot be copied or pickled; keep the "
            f"two beside each other, as in copy.deepcopy((model, optimizer))"
        )


def copied_state(optimizer: torch.optim.Optimizer, *hooked: str) -> dict[str, Any]:
    """What a copy of an optimizer takes over: all but hooks.

    Args:
        optimizer: The optimizer.
        hooked: Names of its attributes that belong to the hooks on its model.
    """
    left_out = {*hooked, "step"}  # an attribute where a scheduler counts the steps
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name not in left_out and not name.startswith("_optimizer_")
    }


def _run(method: Callable[[], Callable[..., Any] | None], args: Any) -> Any:
    alive = method()
    return None if alive is None else alive(*args)
