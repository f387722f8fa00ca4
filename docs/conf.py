"""Sphinx's configuration: `make docs` builds docs/_build/html, with warnings as errors."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "fisherbo"
author = "The fisherbo authors"
version = release = PROJECT["version"]
copyright = author  # Sphinx's name

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"fisherbo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_exclude = ".linenos, .gp, .go"

default_role = "code"  # docstrings name code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_use_rtype = False
suppress_warnings = ["ref.python"]  # types of one name in several packages
nitpicky = True
# Types of other packages are named, not linked: the build needs no network.
nitpick_ignore_regex = [(r"py:.*", r"(?!fisherbo\.(FisherSampler|FisherPruner|KFAC)$).*")]

html_math_renderer = "mathml"

PRIVATE = re.compile(r"^ *_\w+: .*\n(?: {8,}.*\n)*", re.MULTILINE)
FENCE = re.compile(r"^(\s*)```python\n(.*?)^\s*```$", re.DOTALL | re.MULTILINE)


def fences_as_directives(
    app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Docstrings have Markdown's fences, which the formatter knows; here they are directives.

    Private arguments, which only experiments give, are left out.
    """

    def directive(match: re.Match[str]) -> str:
        indent, code = match.groups()
        body = "".join(f"   {line}\n" for line in code.splitlines())
        return f"{indent}.. code-block:: python\n\n{body}"

    lines[:] = FENCE.sub(directive, PRIVATE.sub("", "\n".join(lines))).split("\n")


def without_private_options(
    app: Any, what: str, name: str, obj: object, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """A signature ends before its first private argument, which only experiments give."""
    shown, found, _ = (signature or "").partition(", _")
    return (f"{shown})", returns) if found else None


def inline_math(page: Any, node: Any) -> None:
    """A formula in the text as MathML, which browsers draw without a script from elsewhere."""
    page.body.append(convert(node.astext()))
    raise SkipNode


def displayed_math(page: Any, node: Any) -> None:
    """A formula by itself, which scrolls on narrow screens."""
    page.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise SkipNode


def setup(app: Any) -> None:
    """Register the hooks: that of docstrings before napoleon's, which reads what it leaves."""
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
    app.connect("autodoc-process-signature", without_private_options)
    app.connect("autodoc-process-docstring", fences_as_directives, priority=100)
