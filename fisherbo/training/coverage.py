"""Which modules of a model have Kronecker factors, which have none, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from fisherbo.errors import InvalidInputError


@dataclass(frozen=True)
class Layer:
    """A module whose weight (and bias) has a Kronecker-factored Fisher block.

    Attributes:
        name: Its dotted name in the model.
        module: The module.
        has_bias: Whether the bias is part of the block, as the weight of a last input 1.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    has_bias: bool

    @property
    def parameters(self) -> list[Tensor]:
        """The weight and, if it is part of the block, the bias."""
        bias = self.module.bias
        return [self.module.weight, bias] if self.has_bias and bias is not None else [self.weight]

    @property
    def weight(self) -> Tensor:
        """The weight, shape ``(d_out, ...)``."""
        return self.module.weight

    @property
    def widths(self) -> tuple[int, int]:
        """Sizes ``(d_in, d_out)`` of the factors A and G."""
        d_out = self.weight.shape[0]
        return self.weight[0].numel() + self.has_bias, d_out


@dataclass(frozen=True)
class Coverage:
    """What K-FAC trains and what it leaves to AdamW.

    Attributes:
        covered: Names of the modules with Kronecker factors.
        uncovered: Pairs (module name, reason) of the other modules that own parameters.
        covered_parameters: Number of scalars that K-FAC trains.
        parameters: Number of scalars in the model.
    """

    covered: tuple[str, ...]
    uncovered: tuple[tuple[str, str], ...]
    covered_parameters: int
    parameters: int

    @property
    def share(self) -> float:
        """Share of the model's scalars that K-FAC trains, in [0, 1]."""
        return self.covered_parameters / self.parameters

    def __str__(self) -> str:
        head = (
            f"K-FAC trains {self.covered_parameters} of {self.parameters} parameters "
            f"({self.share:.1%}) in {len(self.covered)} modules: {', '.join(self.covered)}"
        )
        rest = [f"  {name or '(the model itself)'}: {why}" for name, why in self.uncovered]
        return "\n".join([head, "AdamW trains the others:", *rest] if rest else [head])


def examine(model: nn.Module, exclude: Collection[str] = ()) -> tuple[tuple[Layer, ...], Coverage]:
    """The layers of a model that K-FAC covers, and the report.

    Args:
        model: The network, with initialised parameters.
        exclude: Names of modules to leave to AdamW, as in ``model.named_modules()``.

    Raises:
        InvalidInputError: If no module is covered, a parameter is not initialised, or ``exclude``
            names a module that is not there.
    """
    modules = dict(model.named_modules())
    _check_names(exclude, modules)
    _check_initialised(model)
    owners = Counter(p for m in modules.values() for p in m.parameters(recurse=False))
    attentions = [m for m in modules.values() if isinstance(m, nn.MultiheadAttention)]
    inner = {module for attention in attentions for module in attention.modules()}
    layers: list[Layer] = []
    uncovered: list[tuple[str, str]] = []
    for name, module in modules.items():
        parameters = list(module.parameters(recurse=False))
        if not parameters:
            continue
        shared = any(owners[p] > 1 for p in parameters)
        reason = _why_not(module, name in exclude, shared, module in inner)
        if reason is None and isinstance(module, nn.Linear | nn.Conv2d):
            layers.append(Layer(name, module, _bias_follows_weight(module)))
        else:
            uncovered.append((name, reason or "unknown"))
    if not layers:
        raise InvalidInputError(
            f"model must have a Linear or Conv2d module that K-FAC can cover, got none in "
            f"{type(model).__name__} ({_listed(uncovered)}); use torch.optim.AdamW for it"
        )
    return tuple(layers), Coverage(
        covered=tuple(layer.name for layer in layers),
        uncovered=tuple(uncovered),
        covered_parameters=sum(p.numel() for layer in layers for p in layer.parameters),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def _why_not(module: nn.Module, excluded: bool, shared: bool, in_attention: bool) -> str | None:
    """Why a module cannot be covered; ``None`` if it can."""
    if excluded:
        return "excluded by name"
    if in_attention:
        return "MultiheadAttention computes without calling its modules"
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return f"{type(module).__name__} has no Kronecker factors here"
    return _why_not_layer(module, shared)


def _why_not_layer(module: nn.Linear | nn.Conv2d, shared: bool) -> str | None:
    if parametrize.is_parametrized(module) or "weight" not in module._parameters:
        return "its weight is computed from other parameters (a parametrization)"
    if type(module).forward not in (nn.Linear.forward, nn.Conv2d.forward):
        return f"{type(module).__name__} has a forward pass of its own"
    if shared:
        return "its parameters are shared with another module"
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return f"groups={module.groups} > 1"
    return None


def _bias_follows_weight(module: nn.Linear | nn.Conv2d) -> bool:
    bias = module.bias
    return bias is not None and bias.requires_grad == module.weight.requires_grad


def _check_initialised(model: nn.Module) -> None:
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise InvalidInputError(
            f"model must have initialised parameters, got lazy {', '.join(lazy)}; "
            "run a forward pass first"
        )


def _check_names(exclude: Collection[str], modules: dict[str, nn.Module]) -> None:
    unknown = sorted(set(exclude) - modules.keys())
    if unknown:
        raise InvalidInputError(
            f"exclude must name modules of the model, got {unknown}; "
            f"the model has {', '.join(filter(None, modules))}"
        )


def _listed(uncovered: list[tuple[str, str]]) -> str:
    reasons = [f"{name or 'the model itself'}: {why}" for name, why in uncovered]
    return "; ".join(reasons) or "it has no parameters"
