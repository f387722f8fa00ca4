"""Python code as data: what a function or a class does, whoever defined it and wherever it stands.

Code of installed packages is known by its name, the package's version and the text of its module,
which may change under one version while it is developed. All other code is the user's, and read.
"""

from __future__ import annotations

import builtins
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

_MISSING = object()
_PARTS = (
    "co_code co_consts co_names co_varnames co_freevars co_cellvars co_flags co_argcount "
    "co_posonlyargcount co_kwonlyargcount co_exceptiontable"
).split()
_BOOKKEEPING = frozenset(
    "__module__ __qualname__ __doc__ __dict__ __weakref__ __annotations__ __annotate__ "
    "__annotate_func__ __annotations_cache__ __firstlineno__ __static_attributes__ "
    "__abstractmethods__ _abc_impl __orig_bases__ __parameters__".split()
)


def instructions(code: CodeType) -> dict[str, Any]:
    """What the interpreter runs: names, lines and comments are no part of it."""
    return {part: getattr(code, part) for part in _PARTS}


def globals_used(function: FunctionType) -> dict[str, Any]:
    """Values of the global names in a function, of dotted ones where a module has them."""
    return {
        ".".join(path): value
        for path in _paths(function.__code__)
        if (value := _resolved(path, function.__globals__)) is not _MISSING
    }


def members(cls: type) -> dict[str, Any]:
    """What the body of a class defines."""
    slots = (GetSetDescriptorType, MemberDescriptorType)
    return {
        name: value
        for name, value in vars(cls).items()
        if name not in _BOOKKEEPING and not isinstance(value, slots)
    }


def installed(value: Any, name: str | None = None) -> tuple[str, str, str] | None:
    """Module, name and edition of an object that an installed package has under its name."""
    if isinstance(value, ModuleType):
        edition = _edition(value.__name__)
        return None if edition is None else (value.__name__, "", edition)
    name = name or getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    home = getattr(value, "__module__", None)
    for module in (home,) if isinstance(home, str) else ("numpy", "scipy.special"):
        if isinstance(name, str) and _attribute(sys.modules.get(module), name) is value:
            edition = _edition(module)
            return None if edition is None else (module, name, edition)
    return None


def namespace(module: ModuleType) -> Mapping[str, Any]:
    """What one of the user's modules defines and imports."""
    return {k: v for k, v in vars(module).items() if not (k.startswith("__") and k.endswith("__"))}


def _paths(code: CodeType) -> Iterator[tuple[str, ...]]:
    """Global names that the code and the code within it load, with the attributes taken of each."""
    path: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if step.opname == "EXTENDED_ARG":
            continue
        if path and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path = (*path, step.argval)
            continue
        if path:
            yield path
        loads = step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        path = (step.argval,) if loads else ()
        if step.opname == "IMPORT_NAME":
            yield ("import", step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _paths(constant)


def _resolved(path: tuple[str, ...], scope: Mapping[str, Any]) -> Any:
    """Value of a name in a scope; attributes are followed through modules alone."""
    if path[0] == "import":  # a keyword, so that no global has this name
        return _imported(path[1], scope.get("__package__"))
    value = scope.get(path[0], getattr(builtins, path[0], _MISSING))
    for name in path[1:]:
        if not isinstance(value, ModuleType):
            break
        value = getattr(value, name, _MISSING)
    return value


def _imported(name: str, package: str | None) -> Any:
    for full in (name, f"{package}.{name}" if package else name):
        try:
            return importlib.import_module(full)
        except Exception:  # of the user's module; the function meets it too
            continue
    return _MISSING


def _attribute(owner: Any, name: str) -> Any:
    for part in name.split("."):
        owner = getattr(owner, part, _MISSING)
    return owner


@functools.cache
def _edition(module: str) -> str | None:
    """Version of the package, and digest of the module's text if it is not compiled."""
    version = _version(module)
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if version is None or _is_standard(module) or file.suffix != ".py" or not file.is_file():
        return version
    return f"{version} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _version(module: str) -> str | None:
    """Version of the installed package that a module belongs to, None for the user's code."""
    top = module.partition(".")[0]
    if _is_standard(module):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    package = sys.modules.get(top)
    places = [getattr(package, "__file__", None) or "", *getattr(package, "__path__", ())]
    folders = {part for place in places for part in Path(place).parts}
    if top != "fisherbo" and not folders & {"site-packages", "dist-packages"}:
        return None
    told = getattr(package, "__version__", None)
    return told if isinstance(told, str) else _distributed(top)


def _distributed(top: str) -> str | None:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(top, ())
        return "+".join(importlib.metadata.version(owner) for owner in owners) or None
