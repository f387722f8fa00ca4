"""Digests of Python objects by value, the same in every process.

What counts is what an object does, not where it lies or what it is called:

    arrays              type, shape and bytes, however they lie in memory
    containers          their items in order, which code may go by; those of sets in none
    the user's code     of functions byte code, defaults, captured values and the globals used; of
                        classes their members
    installed code      name, version of the package, and text of the module
    other objects       what `pickle` would keep of them
    estimators          likewise, without `RUNTIME`, the parameters that change no result

`joblib.hash` does not serve: it knows a function by its name, whatever its code, and orders some
sets and dicts by hashes that differ from process to process.

An object that pickle refuses, such as a lock or a pointer into C, cannot be told from others. Its
digest is random, so that no two are equal, and it is reported.
"""

from __future__ import annotations

import copyreg
import hashlib
import marshal
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import chain
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any, TypeVar

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from fisherbo.estimators.code import globals_used, installed, instructions, members, namespace
from fisherbo.estimators.sklearn_private import CALLBACKS, CONTEXTS

RUNTIME = frozenset({"memory", "n_jobs", "pre_dispatch", "verbose"})
"""Parameters of estimators that by scikit-learn's glossary change no result."""

_CALLBACKS = (CALLBACKS, *CONTEXTS)
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_PROTOCOL = 4


def digest(value: Any) -> tuple[str, list[str]]:
    """Digest of a value, and the types of the objects in it that cannot be read."""
    reader = _Reader()
    try:
        found = reader.read(value)
    except RecursionError:
        found = reader.unreadable(value)
    return found.hex(), reader.unread


class _Reader:
    """Digests by value: of children first, then of the parent, each object once."""

    def __init__(self) -> None:
        self.unread: list[str] = []
        self._known: dict[int, tuple[Any, bytes]] = {}  # holds the objects, so that ids stay theirs
        self._open: dict[int, int] = {}

    def read(self, value: Any) -> bytes:
        """Digest of a value."""
        kind = type(value)
        if kind in _PLAIN:
            return _hash("plain", marshal.dumps(value, 2))  # from version 3 on it looks at identity
        key = id(value)
        if key in self._known:
            return self._known[key][1]
        if key in self._open:
            return _hash("cycle", str(len(self._open) - self._open[key]).encode())
        self._open[key] = len(self._open)
        try:
            found = self._reading(kind)(value)
        finally:
            del self._open[key]
        self._known[key] = (value, found)
        return found

    def unreadable(self, value: Any) -> bytes:
        """A digest that no other object has."""
        kind = type(value)
        self.unread.append(f"{kind.__module__}.{kind.__qualname__}")
        return _hash("unreadable", uuid.uuid4().bytes)

    def _reading(self, kind: type) -> Callable[[Any], bytes]:
        if kind in _READINGS:
            return getattr(self, _READINGS[kind])
        if issubclass(kind, type):
            return self._class
        if issubclass(kind, ModuleType):
            return self._module
        if issubclass(kind, (sparse.spmatrix, sparse.sparray)):
            return self._sparse
        return self._tensor if kind.__module__ == "torch" else self._object

    def _all(self, tag: str, values: Iterable[Any]) -> bytes:
        return _hash(tag, b"".join(self.read(value) for value in values))

    def _sequence(self, values: Any) -> bytes:
        tag = type(values).__name__
        if _PLAIN.issuperset(map(type, values)):
            return _hash(f"{tag} of plain values", marshal.dumps(values, 2))
        return self._all(tag, values)

    def _set(self, values: Any) -> bytes:
        return _hash("set", b"".join(sorted(self.read(value) for value in values)))

    def _dict(self, values: dict[Any, Any]) -> bytes:
        return self._all("dict", chain.from_iterable(values.items()))

    def _mapping(self, values: Mapping[Any, Any]) -> bytes:
        pairs = sorted((self.read(name), self.read(value)) for name, value in values.items())
        return _hash("mapping", b"".join(chain.from_iterable(pairs)))

    def _array(self, values: Any) -> bytes:
        about = repr((values.dtype, values.shape)).encode()
        if values.dtype.hasobject:
            return _hash("objects", about, self.read(values.ravel().tolist()))
        flat = np.ascontiguousarray(values).reshape(-1)
        return _hash("array", about, flat.view(np.uint8) if flat.nbytes else b"")

    def _sparse(self, values: Any) -> bytes:
        entries = values.tocoo()  # other forms note in their attributes what was computed of them
        about = (values.format, values.shape, *entries.coords, entries.data)
        return self._all(type(values).__name__, about)

    def _tensor(self, value: Any) -> bytes:
        if not hasattr(value, "detach"):
            return self._object(value)
        try:
            flat = value.detach().cpu().flatten()  # pickled, equal tensors differ
            held = flat.numpy() if hasattr(np, str(flat.dtype)[6:]) else flat.double().numpy()
        except Exception:  # of tensors that are sparse or elsewhere
            return self.unreadable(value)
        return self._all("tensor", (str(value.dtype), tuple(value.shape), held))

    def _code(self, code: CodeType) -> bytes:
        return self._mapping(instructions(code))

    def _function(self, function: FunctionType) -> bytes:
        known = installed(function)
        if known is not None:
            return self._all("installed", known)
        about = (
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            [_content(cell) for cell in function.__closure__ or ()],
            MappingProxyType(globals_used(function)),
            MappingProxyType(vars(function)),
        )
        return self._all("function", about)

    def _class(self, cls: type) -> bytes:
        known = installed(cls)
        if known is not None:
            return self._all("installed", known)
        return self._all(
            "class", (cls.__name__, cls.__bases__, type(cls), MappingProxyType(members(cls)))
        )

    def _module(self, module: ModuleType) -> bytes:
        known = installed(module)
        return self._all("module", (known or MappingProxyType(namespace(module)),))

    def _variable(self, variable: TypeVar) -> bytes:
        return _hash("variable", repr(variable).encode())

    def _descriptor(self, value: Any) -> bytes:
        names = ("__func__", "func", "fget", "fset", "fdel")
        return self._all(type(value).__name__, [getattr(value, name, None) for name in names])

    def _object(self, value: Any) -> bytes:
        if value is NotImplemented:
            return _hash("NotImplemented")
        if value is check_random_state(None):
            return _hash("the global random state")  # nobody's choice: it changes all the time
        try:
            reduced = _reduced(value)
        except Exception:  # whatever a class of the user's raises
            return self.unreadable(value)
        if isinstance(reduced, str):
            return self._global(value, reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        about = make, arguments, _lasting(value, state), list(items or ()), list(pairs or ())
        return self._all("object", about)

    def _global(self, value: Any, name: str) -> bytes:
        known = installed(value, name)
        if known is not None:
            return self._all("installed", known)
        if hasattr(value, "__wrapped__"):
            return self._all("wrapped", (type(value), value.__wrapped__))
        return self.unreadable(value)


_READINGS: dict[type, str] = {
    list: "_sequence",
    tuple: "_sequence",
    set: "_set",
    frozenset: "_set",
    dict: "_dict",
    MappingProxyType: "_mapping",  # also what a name space is given as: it has no order
    np.ndarray: "_array",
    np.memmap: "_array",
    CodeType: "_code",
    FunctionType: "_function",
    TypeVar: "_variable",
    property: "_descriptor",
    classmethod: "_descriptor",
    staticmethod: "_descriptor",
    cached_property: "_descriptor",
}


def _hash(tag: str, *contents: Any) -> bytes:
    made = hashlib.blake2b(tag.encode() + b"\0", digest_size=16)
    for content in contents:
        made.update(content)
    return made.digest()


def _content(cell: Any) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:  # a name that is bound later
        return ()


def _reduced(value: Any) -> Any:
    registered = copyreg.dispatch_table.get(type(value))
    return value.__reduce_ex__(_PROTOCOL) if registered is None else registered(value)


def _lasting(value: Any, state: Any) -> Any:
    """State without what changes no result."""
    if not isinstance(state, dict):
        return state
    runtime = RUNTIME if hasattr(type(value), "get_params") else frozenset()
    kept = {k: v for k, v in state.items() if k not in runtime and k not in _CALLBACKS}
    return MappingProxyType(kept)
