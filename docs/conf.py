"""Sphinx's configuration: `make docs` builds docs/_build/html, with warnings as errors."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "fisherbo"
author = "The fisherbo authors"
version = release = PROJECT["version"]
copyright = author  # Sphinx's name

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
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

FENCE = re.compile(r"^(\s*)```python\n(.*?)^\s*```$", re.DOTALL | re.MULTILINE)


def fences_as_directives(
    app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Docstrings have Markdown's fences, which the formatter knows; here they are directives."""

    def directive(match: re.Match[str]) -> str:
        indent, code = match.groups()
        body = "".join(f"   {line}\n" for line in code.splitlines())
        return f"{indent}.. code-block:: python\n\n{body}"

    lines[:] = FENCE.sub(directive, "\n".join(lines)).split("\n")


def setup(app: Any) -> None:
    """Register the hook, before napoleon's, which reads what it leaves."""
    app.connect("autodoc-process-docstring", fences_as_directives, priority=100)
