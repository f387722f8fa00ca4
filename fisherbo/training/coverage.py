"""Which modules of a model have a curvature block, which have none, and why."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from fisherbo.errors import InvalidInputError
from fisherbo.training.rows import CONVOLUTIONS, NORMS

Kind = Literal["dense", "diagonal", "units"]

_FORWARDS = {kind.forward for kind in (nn.Linear, nn.Embedding, *CONVOLUTIONS, *NORMS)}


@dataclass(frozen=True)
class Layer:
    """A module whose weight (and bias) has a block of the Fisher.

    Attributes:
        name: Its dotted name in the model.
        module: The module.
        has_bias: Whether the bias is part of the block, as the weight of a last input 1.
        aliases: Other modules with the same parameters, whose calls count as calls of this one.
    """

    name: str
    module: nn.Module
    has_bias: bool
    aliases: tuple[nn.Module, ...] = ()

    @property
    def kind(self) -> Kind:
        """Dense factor A; diagonal A, of one-hot inputs; or one small block a unit."""
        if isinstance(self.module, NORMS):
            return "units"
        return "diagonal" if isinstance(self.module, nn.Embedding) else "dense"

    @property
    def parameters(self) -> list[Tensor]:
        """The weight and, if it is part of the block, the bias."""
        bias = self.module.bias if self.has_bias else None
        return [self.weight, bias] if isinstance(bias, Tensor) else [self.weight]

    @property
    def weight(self) -> Tensor:
        """The weight, in the module's own shape."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def groups(self) -> int:
        """Groups of a convolution, else 1."""
        return self.module.groups if isinstance(self.module, CONVOLUTIONS) else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ``(*b, d_out, d_in)`` of the weight as a matrix, with the bias as last column."""
        if self.kind == "units":
            return (self.weight.numel(), 1 + self.has_bias)
        if self.kind == "diagonal":
            return (self.weight.shape[1], self.weight.shape[0])
        batch = (self.groups,) if self.groups > 1 else ()
        d_in = math.prod(self.weight.shape[1:]) + self.has_bias
        return (*batch, self.weight.shape[0] // self.groups, d_in)

    def matrix(self, values: Sequence[Tensor]) -> Tensor:
        """Tensors like `parameters` as one matrix of `shape`."""
        if self.kind == "diagonal":
            return values[0].mT
        rows = self.shape[:-1]
        columns = [value.reshape(*rows, -1) for value in values]
        return torch.cat(columns, -1) if len(columns) > 1 else columns[0]

    def split(self, matrix: Tensor) -> list[Tensor]:
        """A matrix of `shape` as tensors like `parameters`."""
        if self.kind == "diagonal":
            return [matrix.mT]
        inputs = matrix.shape[-1] - self.has_bias
        parts = [matrix[..., :inputs], matrix[..., inputs:]]
        return [part.reshape(p.shape) for part, p in zip(parts, self.parameters, strict=False)]


@dataclass(frozen=True)
class Coverage:
    """What K-FAC trains and what it leaves to AdamW.

    Attributes:
        covered: Names of the modules with a block of the Fisher.
        uncovered: Pairs (name of a module or a parameter, reason) of what AdamW trains.
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
        InvalidInputError: If no module is covered, a parameter is not initialised or has sparse
            gradients, or ``exclude`` names a module that is not there.
    """
    modules = dict(model.named_modules())
    _check_names(exclude, modules)
    _check_gradients(model)
    owning = {
        n: m for n, m in modules.items() if next(m.parameters(recurse=False), None) is not None
    }
    inner = {
        part
        for module in modules.values()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
    }
    reasons = {n: _why_not(m, n in exclude, m in inner) for n, m in owning.items()}
    owners = _owners(owning)
    layers: list[Layer] = []
    uncovered: list[tuple[str, str]] = []
    covered: list[str] = []
    for name, module in owning.items():
        reason = reasons[name] or _why_not_shared(name, owning, owners, reasons)
        if reason is not None:
            uncovered.append((name, reason))
            continue
        covered.append(name)
        has_bias, left_out = _bias_of(module, owners)
        if left_out:
            uncovered.append((f"{name}.bias", left_out))
        first, *others = owners[module.weight]
        if first == name:
            layers.append(Layer(name, module, has_bias, tuple(owning[other] for other in others)))
    if not layers:
        raise InvalidInputError(
            "model must have a module that K-FAC can cover (Linear, Conv1d to Conv3d, Embedding, "
            f"a normalisation), got none in {type(model).__name__} ({_listed(uncovered)}); "
            "use torch.optim.AdamW for it"
        )
    return tuple(layers), Coverage(
        covered=tuple(covered),
        uncovered=tuple(uncovered),
        covered_parameters=sum(p.numel() for layer in layers for p in layer.parameters),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def _owners(modules: Mapping[str, nn.Module]) -> dict[Tensor, list[str]]:
    """Names of the modules that hold each parameter."""
    owners: dict[Tensor, list[str]] = {}
    for name, module in modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(name)
    return owners


def _why_not(module: nn.Module, excluded: bool, in_attention: bool) -> str | None:
    """Why a module by itself cannot be covered; ``None`` if it can."""
    if excluded:
        return "excluded by name"
    if in_attention:
        return (
            "MultiheadAttention computes without calling its modules; "
            "build query, key, value and output from Linear modules to have them covered"
        )
    if not isinstance(module, (nn.Linear, nn.Embedding, *CONVOLUTIONS, *NORMS)):
        return f"{type(module).__name__} has no curvature block here"
    return _why_not_layer(module)


def _why_not_layer(module: nn.Module) -> str | None:
    """As `_why_not` for a module of a kind that has a block."""
    if parametrize.is_parametrized(module) or "weight" not in module._parameters:
        return "its weight is computed from other parameters (a parametrization)"
    if type(module).forward not in _FORWARDS:
        return f"{type(module).__name__} has a forward pass of its own"
    if isinstance(module, nn.Embedding) and (module.max_norm or module.scale_grad_by_freq):
        return "max_norm and scale_grad_by_freq change its weight or gradient behind the loss"
    return None


def _why_not_shared(
    name: str,
    modules: Mapping[str, nn.Module],
    owners: Mapping[Tensor, Sequence[str]],
    reasons: Mapping[str, str | None],
) -> str | None:
    """Why a weight that several modules hold cannot be covered; ``None`` if it can."""
    module = modules[name]
    weight = module.weight
    assert isinstance(weight, Tensor)
    for other in owners[weight]:
        if other == name:
            continue
        if reasons[other] is not None:
            return f"its weight is shared with {other!r}, which is not covered"
        if type(modules[other]) is not type(module) or _groups(modules[other]) != _groups(module):
            return (
                f"its weight is shared with {other!r} ({type(modules[other]).__name__}), which "
                "uses it in another way; the sum of the two is no Kronecker product"
            )
    return None


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, CONVOLUTIONS) else 1


def _bias_of(module: nn.Module, owners: Mapping[Tensor, Sequence[str]]) -> tuple[bool, str]:
    """Whether the bias belongs to the block of the weight, and if there is one, why not."""
    bias, weight = getattr(module, "bias", None), module.weight
    if not isinstance(bias, Tensor) or bias not in owners:
        return False, ""
    assert isinstance(weight, Tensor)
    if owners[bias] != owners[weight]:
        return False, "not shared by the modules that share its weight"
    if bias.requires_grad != weight.requires_grad:
        return False, "" if weight.requires_grad else "its weight is frozen"
    return True, ""


def _check_gradients(model: nn.Module) -> None:
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise InvalidInputError(
            f"model must have initialised parameters, got lazy {', '.join(lazy)}; "
            "run a forward pass first"
        )
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            raise InvalidInputError(
                f"module {name!r} has sparse gradients, which neither K-FAC nor AdamW can use; "
                "build it with sparse=False"
            )


def _check_names(exclude: Collection[str], modules: Mapping[str, nn.Module]) -> None:
    unknown = sorted(set(exclude) - modules.keys())
    if unknown:
        raise InvalidInputError(
            f"exclude must name modules of the model, got {unknown}; "
            f"the model has {', '.join(filter(None, modules))}"
        )


def _listed(uncovered: Sequence[tuple[str, str]]) -> str:
    reasons = [f"{name or 'the model itself'}: {why}" for name, why in uncovered]
    return "; ".join(reasons) or "it has no parameters"
