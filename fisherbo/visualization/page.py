"""One HTML page of tables and figures that needs no network: plotly's script is in it once."""

from __future__ import annotations

import html
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from fisherbo.files import replacing
from fisherbo.visualization.style import PANORAMA, graph_objects

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PACKAGES = ("fisherbo", "torch", "optuna", "numpy")


def render(
    title: str,
    lead: str,
    table: Sequence[Sequence[str]],
    figures: Mapping[str, Figure],
    notes: Sequence[str] = (),
    *,
    captions: Mapping[str, str] | None = None,
    folded: Collection[str] = (),
    before: str = "",
    after: str = "",
) -> str:
    """The page's HTML.

    It is one column on narrow screens, follows the reader's choice of a light or dark theme, and
    prints all that is folded.

    Args:
        title: Heading, as text.
        lead: A sentence below it, as text.
        table: Rows of cells, as text; the first is of names.
        figures: By the id that their element has on the page.
        notes: Sentences below the figures, as text.
        captions: How to read a figure, by its id, as text.
        folded: Ids of figures that are shown on demand.
        before: HTML between the table and the figures.
        after: HTML below the figures.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    graph_objects()
    from plotly.offline import get_plotlyjs

    captions = {} if captions is None else captions
    shown = {name: figure for name, figure in figures.items() if name not in folded}
    hidden = {name: figure for name, figure in figures.items() if name in folded}
    sections = [
        _section(name, figure, captions.get(name, ""))
        for name, figure in {**shown, **hidden}.items()
    ]
    expert = "".join(sections[len(shown) :])
    parts = sections[: len(shown)]
    if expert:
        parts.append(f"<details><summary>For experts</summary>{expert}</details>")
    return _file("page.html").substitute(
        title=html.escape(title),
        lead=html.escape(lead),
        table=table_of(table),
        before=before,
        figures="\n".join(parts),
        after=after,
        notes="\n".join(f"<p>{html.escape(note)}</p>" for note in notes),
        versions=html.escape(", ".join(versions())),
        style=_file("page.css").template,
        plotly=get_plotlyjs() if figures else "",
        script=_file("page.js").template,
    )


def _section(name: str, figure: Figure, caption: str) -> str:
    """A figure with its title above and its caption below, both as text of the page."""
    title = figure.layout.title.text or name
    bare = graph_objects().Figure(figure)
    bare.update_layout(title=None, margin={"t": 50, "l": 60, "r": 20, "b": 60})
    data = str(bare.to_json()).replace("</", "<\\/")  # ends no script
    wide = " panorama" if figure.layout.meta == PANORAMA else ""
    drawn = (
        f'<div class="plot{wide}" id="{name}"></div><script type="application/json">{data}</script>'
    )
    read = f"<figcaption><b>How to read this.</b> {html.escape(caption)}</figcaption>"
    label = html.escape(title, quote=True)
    return (
        f'<section id="{name}-section" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{html.escape(title)}</h2>'
        f'<figure role="group" aria-label="{label}">{drawn}{read if caption else ""}</figure>'
        "</section>"
    )


def _file(name: str) -> Template:
    return Template(files("fisherbo.visualization").joinpath(name).read_text("utf-8"))


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


def trials_section(
    lines: Sequence[Sequence[str]], title: str = "Trials", name: str = "trials"
) -> str:
    """HTML of a table of trials that can be sorted, and downloaded as CSV.

    Args:
        lines: A line of names, then one a trial, as texts.
        title: Heading, as text.
        name: Id of the table.
    """
    key = html.escape(name, quote=True)
    button = f'<button type="button" data-csv="{key}">Download as CSV</button>'
    return (
        f'<section aria-labelledby="{key}-title"><h2 id="{key}-title">{html.escape(title)}</h2>'
        f"<p>Choose a column's name to sort by it. {button}</p>"
        f'<div class="scroll">{table_of(lines, name=name, sortable=True)}</div></section>'
    )


def table_of(rows: Sequence[Sequence[Any]], *, name: str = "", sortable: bool = False) -> str:
    """HTML of a table of texts, whose first row is of names.

    Args:
        rows: Rows of cells.
        name: Id of the table.
        sortable: Whether its columns can be sorted, and the table be downloaded as CSV.
    """

    def line(cells: Sequence[Any], tag: str) -> str:
        texts = (html.escape(str(cell)).replace("\n", "<br>") for cell in cells)
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

    head, *body = rows
    kind = ' class="sortable"' if sortable else ""
    given = f' id="{html.escape(name, quote=True)}"' if name else ""
    lines = "\n".join(line(cells, "td") for cells in body)
    whole = f"<thead>{line(head, 'th')}</thead>\n<tbody>{lines}</tbody>"
    return f'<div class="wide"><table{given}{kind}>\n{whole}\n</table></div>'
