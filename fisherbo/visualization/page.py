"""One HTML page of a table and figures that needs no network: plotly's script is in it once."""

from __future__ import annotations

import html
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fisherbo.files import replacing
from fisherbo.visualization.style import graph_objects

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PACKAGES = ("fisherbo", "torch", "optuna", "numpy")


def render(
    title: str,
    lead: str,
    table: Sequence[Sequence[str]],
    figures: Mapping[str, Figure],
    notes: Sequence[str] = (),
) -> str:
    """The page's HTML.

    Args:
        title: Heading, as text.
        lead: A sentence below it, as text.
        table: Rows of cells, as text; the first is of names.
        figures: By the id that their element has on the page.
        notes: Sentences below the figures, as text.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    graph_objects()
    divs = [
        figure.to_html(full_html=False, include_plotlyjs=index == 0, div_id=name)
        for index, (name, figure) in enumerate(figures.items())
    ]
    return _PAGE.format(
        title=html.escape(title),
        lead=html.escape(lead),
        table=_table(table),
        figures="\n".join(divs),
        notes="\n".join(f"<p>{html.escape(note)}</p>" for note in notes),
        versions=html.escape(", ".join(versions())),
    )


def write(page: str, path: Path, option: str = "--report") -> None:
    """Write a page; the file is replaced in one step.

    Args:
        page: Its HTML.
        path: The file; folders are made.
        option: What to change if it cannot be written.

    Raises:
        StorageError: The file cannot be written.
    """
    with replacing(path, f"choose another place with {option}") as file:
        file.write(page.encode())


def versions() -> list[str]:
    """Versions of Python and of the packages that the numbers come from."""
    packages = [f"{name} {version(name)}" for name in PACKAGES]
    return [f"Python {platform.python_version()}", *packages]


def _table(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        texts = (html.escape(cell).replace("\n", "<br>") for cell in cells)
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

    head, *body = rows
    lines = [line(head, "th"), *(line(cells, "td") for cells in body)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #999; padding: 0.4em 0.6em; text-align: left; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{lead}</p>
{table}
{figures}
{notes}
<p>{versions}</p>
</body>
</html>
"""
