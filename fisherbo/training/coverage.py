"""Which modules of a model have a curvature block, which have none, and why."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from fisherbo.errors import InvalidInputError
from fisherbo.training.forms import (
    LEAST_INPUT_BLOCK,
    LEAST_OUTPUT_BLOCK,
    MAX_FACTOR_SIZE,
    Form,
    form_of,
)
from fisherbo.training.rows import CONVOLUTIONS, NORMS

Kind = Literal["matrix", "attention", "embedding", "units"]

_KINDS = (nn.Linear, nn.Embedding, nn.MultiheadAttention, *CONVOLUTIONS, *NORMS)
_FORWARDS = {kind.forward for kind in _KINDS}
_IN_ATTENTION = "the MultiheadAttention around it is not covered, and computes without calling it"


@dataclass(frozen=True, eq=False)
class Layer:
    """A module whose weight (and bias) has a block of the Fisher.

    A `torch.nn.MultiheadAttention` has two: its own ``in_proj_weight``, of three matrices (for
    queries, keys and values) like a convolution of three groups, and its ``out_proj``.

    Attributes:
        name: Its dotted name in the model.
        module: The module.
        has_bias: Whether the bias is part of the block, as the weight of a last input 1.
        aliases: Other modules with the same parameters, whose calls count as calls of this one.
        alias_names: Their names.
        max_factor_size: Largest dense factor.
    """

    name: str
    module: nn.Module
    has_bias: bool
    aliases: tuple[nn.Module, ...] = ()
    alias_names: tuple[str, ...] = ()
    max_factor_size: int = MAX_FACTOR_SIZE

    @cached_property
    def kind(self) -> Kind:
        """A matrix; three of an attention; a table of one-hot inputs; or one small block a unit."""
        if isinstance(self.module, NORMS):
            return "units"
        if isinstance(self.module, nn.MultiheadAttention):
            return "attention"
        return "embedding" if isinstance(self.module, nn.Embedding) else "matrix"

    @cached_property
    def parameters(self) -> list[Tensor]:
        """The weight and, if it is part of the block, the bias."""
        bias = _bias(self.module) if self.has_bias else None
        return [self.weight] if bias is None else [self.weight, bias]

    @cached_property
    def weight(self) -> Tensor:
        """The weight, in the module's own shape."""
        return _weight(self.module)

    @cached_property
    def groups(self) -> int:
        """Number of matrices: groups of a convolution, 3 of an attention, else 1."""
        return _groups(self.module)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape ``(*b, d_out, d_in)`` of the weight as a matrix, with the bias as last column."""
        if self.kind == "units":
            return (self.weight.numel(), 1 + self.has_bias)
        if self.kind == "embedding":
            return (self.weight.shape[1], self.weight.shape[0])
        batch = (self.groups,) if self.groups > 1 else ()
        d_in = math.prod(self.weight.shape[1:]) + self.has_bias
        return (*batch, self.weight.shape[0] // self.groups, d_in)

    @cached_property
    def input_form(self) -> Form:
        """The form of A; an Embedding's is diagonal, exactly."""
        d_out, d_in = self.shape[-2:]
        if self.kind == "embedding":
            return Form(d_in, 1)
        positions = math.prod(self.weight.shape[2:])
        return form_of(d_in, d_out, LEAST_INPUT_BLOCK, positions, self.max_factor_size)

    @cached_property
    def output_form(self) -> Form:
        """The form of G."""
        d_out, d_in = self.shape[-2:]
        return form_of(d_out, d_in, LEAST_OUTPUT_BLOCK, limit=self.max_factor_size)

    @property
    def wide(self) -> str:
        """Which of the factors are not dense, "" if none is."""
        if self.kind == "units":
            return ""
        forms = {"output": self.output_form}
        if self.kind != "embedding":
            forms["input"] = self.input_form
        return ", ".join(f"{n} factor {form}" for n, form in forms.items() if not form.dense)

    def matrix(self, values: Sequence[Tensor]) -> Tensor:
        """Tensors like `parameters` as one matrix of `shape`."""
        if self.kind == "embedding":
            return values[0].mT
        rows = self.shape[:-1]
        columns = [value.reshape(*rows, -1) for value in values]
        return torch.cat(columns, -1) if len(columns) > 1 else columns[0]

    def split(self, matrix: Tensor) -> list[Tensor]:
        """A matrix of `shape` as tensors like `parameters`."""
        if self.kind == "embedding":
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
        wide: Pairs (name of a covered module, its factors that are not dense and their form).
    """

    covered: tuple[str, ...]
    uncovered: tuple[tuple[str, str], ...]
    covered_parameters: int
    parameters: int
    wide: tuple[tuple[str, str], ...] = ()

    def without(self, layer: Layer, reason: str) -> Coverage:
        """The report once a layer is left to AdamW after all."""
        modules = [layer.name, *layer.alias_names]
        return replace(
            self,
            covered=tuple(name for name in self.covered if name not in modules),
            uncovered=(*self.uncovered, *((name, reason) for name in modules)),
            covered_parameters=self.covered_parameters - sum(p.numel() for p in layer.parameters),
            wide=tuple(pair for pair in self.wide if pair[0] not in modules),
        )

    @property
    def share(self) -> float:
        """Share of the model's scalars that K-FAC trains, in [0, 1]."""
        return self.covered_parameters / self.parameters

    def __str__(self) -> str:
        head = (
            f"K-FAC trains {self.covered_parameters} of {self.parameters} parameters "
            f"({self.share:.1%}) in {len(self.covered)} modules: {', '.join(self.covered)}"
        )
        lines = [head]
        if self.wide:
            lines += ["Wide layers:", *(f"  {name}: {form}" for name, form in self.wide)]
        if self.uncovered:
            lines.append("AdamW trains the others:")
            lines += [f"  {name or '(the model itself)'}: {why}" for name, why in self.uncovered]
        return "\n".join(lines)


def examine(
    model: nn.Module, exclude: Collection[str] = (), max_factor_size: int = MAX_FACTOR_SIZE
) -> tuple[tuple[Layer, ...], Coverage]:
    """The layers of a model that K-FAC covers, and the report.

    Args:
        model: The network, with initialised parameters.
        exclude: Names of modules to leave to AdamW, as in ``model.named_modules()``.
        max_factor_size: Largest dense factor; see `form_of`.

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
    reasons = {n: _why_not(m, n in exclude) for n, m in owning.items()}
    for name, module in owning.items():  # out_proj is called only where its attention is covered
        if isinstance(module, nn.MultiheadAttention) and reasons[name] is not None:
            reasons |= {n: _IN_ATTENTION for n, m in owning.items() if m is module.out_proj}
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
        first, *others = owners[_weight(module)]
        if first == name:
            aliases = tuple(owning[other] for other in others)
            layers.append(Layer(name, module, has_bias, aliases, tuple(others), max_factor_size))
    if not layers:
        raise InvalidInputError(
            "model must have a module that K-FAC can cover (Linear, Conv1d to Conv3d, Embedding, "
            "MultiheadAttention, a normalisation), got none in "
            f"{type(model).__name__} ({_listed(uncovered)}); use torch.optim.AdamW for it"
        )
    return tuple(layers), Coverage(
        covered=tuple(covered),
        uncovered=tuple(uncovered),
        covered_parameters=sum(p.numel() for layer in layers for p in layer.parameters),
        parameters=sum(p.numel() for p in model.parameters()),
        wide=tuple((layer.name, layer.wide) for layer in layers if layer.wide),
    )


def _owners(modules: Mapping[str, nn.Module]) -> dict[Tensor, list[str]]:
    """Names of the modules that hold each parameter."""
    owners: dict[Tensor, list[str]] = {}
    for name, module in modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(name)
    return owners


def _weight(module: nn.Module) -> Tensor:
    attention = isinstance(module, nn.MultiheadAttention)
    weight = module.in_proj_weight if attention else module.weight
    assert isinstance(weight, Tensor)
    return weight


def _bias(module: nn.Module) -> Tensor | None:
    attention = isinstance(module, nn.MultiheadAttention)
    bias = getattr(module, "in_proj_bias" if attention else "bias", None)
    return bias if isinstance(bias, Tensor) else None


def _why_not(module: nn.Module, excluded: bool) -> str | None:
    """Why a module by itself cannot be covered; ``None`` if it can."""
    if excluded:
        return "excluded by name"
    if not isinstance(module, _KINDS):
        return f"{type(module).__name__} has no curvature block here"
    return _why_not_layer(module)


def _why_not_layer(module: nn.Module) -> str | None:
    """As `_why_not` for a module of a kind that has a block."""
    attention = isinstance(module, nn.MultiheadAttention)
    weight = "in_proj_weight" if attention else "weight"
    if parametrize.is_parametrized(module) or weight not in module._parameters:
        return "its weight is computed from other parameters (a parametrization)"
    if type(module).forward not in _FORWARDS:
        return f"{type(module).__name__} has a forward pass of its own"
    if attention and (
        module.in_proj_weight is None or module.add_zero_attn or module.bias_k is not None
    ):
        return "MultiheadAttention with kdim, vdim, add_bias_kv or add_zero_attn has no block here"
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
    for other in owners[_weight(module)]:
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
    if isinstance(module, nn.MultiheadAttention):
        return 3
    return module.groups if isinstance(module, CONVOLUTIONS) else 1


def _bias_of(module: nn.Module, owners: Mapping[Tensor, Sequence[str]]) -> tuple[bool, str]:
    """Whether the bias belongs to the block of the weight, and if there is one, why not."""
    bias, weight = _bias(module), _weight(module)
    if bias is None or bias not in owners:
        return False, ""
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
