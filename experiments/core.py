"""Who calls the natural-gradient core, and whether anybody does its work elsewhere.

    python -m experiments.core     a table of all customers and the core functions each calls

The core is `fisherbo.geometry`: metrics, trust region, factorisations. A factorisation or solve of
another library, a ratio rule, or the length of a KL ball outside of it is a second implementation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import fisherbo
from experiments.options import command_line

PACKAGE = Path(fisherbo.__file__).parent
CORE = "fisherbo.geometry"
PARTS = ("block_diagonal", "lapack", "linalg", "lowrank", "metric", "trust_region")
FACTORISATIONS = frozenset(
    "cho_factor cho_solve cholesky cholesky_ex cholesky_inverse cholesky_solve dpotrf dpotri "
    "dpotrs dtrtrs eig eigh eigvals eigvalsh inv inv_ex inverse ldl_factor logdet lstsq lu "
    "lu_factor lu_solve pinv qr slogdet solve solve_ex solve_triangular svd svdvals".split()
)
RATIOS = (0.25, 0.75)
GAINS = ("actual", "gain", "predicted", "promised", "ratio", "reduction")
DIVERGENCES = ("clip", "kl", "limit", "radius")


@dataclass(frozen=True)
class Finding:
    """A second implementation.

    Attributes:
        place: File and line.
        what: What it does itself.
        code: The expression.
    """

    place: str
    what: str
    code: str


def second_implementations(package: Path = PACKAGE) -> list[Finding]:
    """All of a package outside ``geometry/``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if place.parts[0] == "geometry":
            continue
        tree = ast.parse(path.read_text())
        homes = dict(imported(tree))
        for node in ast.walk(tree):
            what = itself(node, homes)
            if what is not None:
                line = getattr(node, "lineno", 0)
                found.append(Finding(f"{place}:{line}", what, ast.unparse(node)))
    return found


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Local names, and the modules or members that they were imported as."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.asname or name.name.split(".")[0], name.name
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                yield name.asname or name.name, f"{node.module}.{name.name}"


def itself(node: ast.AST, homes: dict[str, str]) -> str | None:
    """What the core does, if this expression does it without the core."""
    if isinstance(node, ast.Call):
        owner, name = owner_and_name(node.func)
        if name in FACTORISATIONS and not homes.get(owner or name, "").startswith(CORE):
            return "factorises or solves"
        if name == "sqrt" and any(map(is_share_of_a_divergence, ast.walk(node))):
            return "measures a KL ball"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        if getattr(node.right, "value", None) == 0.5 and is_share_of_a_divergence(node.left):
            return "measures a KL ball"
    if isinstance(node, ast.Compare):
        words = {word for x in ast.walk(node) for word in words_of(x)}
        constants = [x.value for x in ast.walk(node) if isinstance(x, ast.Constant)]
        if words & set(GAINS) and set(constants) & set(RATIOS):
            return "judges a step by its ratio"
    return None


def owner_and_name(function: ast.expr) -> tuple[str, str]:
    """``np`` and ``solve`` of ``np.linalg.solve``; no owner of a bare name."""
    name = function.attr if isinstance(function, ast.Attribute) else ""
    owner = function
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    root = owner.id if isinstance(owner, ast.Name) else "?"
    return (root, name) if name else ("", root)


def is_share_of_a_divergence(node: ast.AST) -> bool:
    """Whether it divides a limit of a divergence by something."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
        return False
    words = {word for x in ast.walk(node.left) for word in words_of(x)}
    return bool(words & set(DIVERGENCES))


def words_of(node: ast.AST) -> list[str]:
    name = getattr(node, "id", "") or getattr(node, "attr", "")
    return str(name).lower().split("_")


def customers(package: Path = PACKAGE) -> dict[str, list[str]]:
    """Modules outside ``geometry/`` to the names of the core's parts that each imports."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if place.parts[0] == "geometry":
            continue
        names = [
            ".".join(home.split(".")[2:])
            for _, home in imported(ast.parse(path.read_text()))
            if home.startswith(CORE + ".") and home.split(".")[2] in PARTS
        ]
        if names:
            found[str(place.with_suffix("")).replace("/", ".")] = sorted(set(names))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("core", __doc__)
    parser.parse_args(argv)
    table = Table(title="Customers of fisherbo.geometry's core")
    table.add_column("module")
    table.add_column("what it calls")
    for module, names in customers().items():
        table.add_row(module, ", ".join(names))
    console = Console()
    console.print(table)
    for finding in second_implementations():
        console.print(f"{finding.place} {finding.what}: {finding.code}", highlight=False)
    if second_implementations():
        raise SystemExit(1)


if __name__ == "__main__":
    main()
