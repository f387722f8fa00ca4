"""Every measured number of README.md, docs and OptunaHub's page against its file.

    python -m experiments.verify            fails on any difference
    python -m experiments.verify --write    puts the tables and numbers of the files into the pages

A page says in comments, which readers do not see, where its numbers are from:

    <!-- table: latency -->                              above a table of `experiments.pages`
    <!-- made: latency -->                               above the line on how a file was made
    **22**<!-- latency > fisher; 5; 50 > median -->      after a number of the text
    <!-- set-up: 60 0.1 -->                              in a paragraph or item: these numbers were
                                                         chosen, not measured
    <!-- set-up -->                                      on the page of benchmarks: all others were
    <!-- no result file -->                              above what a command prints but is not kept

A number of the text is right if the file's, rounded to as many digits, is that number. On the pages
of docs that say how well something works a number without a comment is a failure, except in code,
formulas and references; so is one of the section "Measured" of a README.
The numbers of the README's picture are compared too. The regrets of `comparison.md` are computed
again from the traces that are shipped; its ranks too, where FisherSampler's traces are among them.
So are our own rows of `coco.md`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from io import StringIO
from pathlib import Path

from rich.console import Console

from experiments import coco, coco_tables, result_tables
from experiments.harness import statistics
from experiments.harness.comparison import MARKS, REFERENCE, Array, Pair, Suite, compare
from experiments.harness.traces import shipped, trace_of
from experiments.options import command_line
from experiments.pages import RECOMPUTED, TABLES
from experiments.summary import SUITES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HUB = ROOT / "plugins" / "optunahub" / "package" / "samplers" / "fisherbo" / "README.md"
BENCHMARKS = DOCS / "benchmarks.md"
OTHERS = (
    *(DOCS / f"{name}.md" for name in ("index", "quickstart", "faq", "gallery", "migration")),
    *sorted((DOCS / "guides").glob("*.md")),
    *sorted((DOCS / "how").glob("*.md")),
)
PAGES = (ROOT / "README.md", BENCHMARKS, HUB, *OTHERS)
TABLE = re.compile(r"<!-- table: (\w+) -->\n\n?((?:\|.*\n)*)")
MADE = re.compile(r"<!-- made: (\w+) -->\n(.*)\n")
PLACED = re.compile(
    r"(?P<number>[−+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[−+-]?\d+)?)(?P<after>[\s*×%]*)"
    r"<!-- (?P<place>\w+ > [^\n]*?) -->"
)
EXEMPT = ("<!-- set-up -->", "<!-- no result file -->")
CHOSEN = re.compile(r"<!-- set-up: (.*?) -->")
BLOCK = re.compile(r"^ *(```|:::).*?^ *\1$|\$\$.*?\$\$", re.DOTALL | re.MULTILINE)
NOT_MEASURED = re.compile(
    r"`[^`]*`|\$[^$]*\$|<!--.*?-->|\]\([^)]*\)|^#.*?$|\[[\w ]*\]:.*?$|^ *\d+\. "
    r"|(?:[A-Z]\w+|et al\.)\s+(?:19|20)\d\d(?=[;,)])",
    re.DOTALL | re.MULTILINE,
)
FREE = re.compile(r"(?<![\w.-])[−+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[−+-]?\d+)?(?![\w-])")


def wrong_tables(page: str) -> Iterator[str]:
    """The tables that are not as the result files have them."""
    for found in TABLE.finditer(page):
        name, printed = found.groups()
        if name not in TABLES:
            yield f"there is no table {name!r} in experiments/pages.py"
            continue
        lines = zip(printed.strip().splitlines(), TABLES[name]().splitlines(), strict=False)
        differing = next(((a, b) for a, b in lines if a != b), None)
        if differing:
            yield f"table {name}: printed {differing[0]}, measured {differing[1]}"
        elif printed.strip() != TABLES[name]():
            yield f"table {name} has another number of rows than the result file"
        if page[found.end() :] and not page.startswith("\n", found.end()):
            yield f"table {name}: the line below it would be a row; leave one blank"


def wrong_stamps(page: str) -> Iterator[str]:
    """The lines on when and with what a file was made that are not those of the file."""
    for name, line in MADE.findall(page):
        if line != result_tables.stamp(name):
            yield f"{name}: printed {line}, the file says {result_tables.stamp(name)}"


def wrong_numbers(page: str) -> Iterator[str]:
    """The numbers of the text that are not what stands at their places."""
    for found in PLACED.finditer(page):
        try:
            measured = result_tables.looked_up(found["place"])
        except LookupError as error:
            yield f"{found['number']}: {error}"
            continue
        if not agrees(found["number"], measured):
            yield f"printed {found['number']}, measured {measured:g}: {found['place']}"


def decimals(printed: str) -> Decimal:
    """A printed number, exactly."""
    return Decimal(printed.replace(",", "").replace("−", "-"))


def agrees(printed: str, measured: float) -> bool:
    """Whether a number, rounded to as many digits as are printed, is what is printed."""
    value = decimals(printed)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - 1)
    return abs(Decimal(repr(measured)) - value) <= half


def sourceless_numbers(page: str) -> Iterator[str]:
    """Numbers of the text without a comment, in no code, formula, link or exempt paragraph."""
    rest = PLACED.sub("", MADE.sub("", TABLE.sub("", BLOCK.sub("", page))))
    for paragraph in re.split(r"\n\s*\n|\n(?= *- )", rest):
        if any(mark in paragraph for mark in EXEMPT):
            continue
        chosen = " ".join(CHOSEN.findall(paragraph)).split()
        for found in FREE.findall(NOT_MEASURED.sub(" ", paragraph)):
            if (number := found.rstrip(",.")) not in chosen:
                yield f"{number} has no source: {' '.join(paragraph.split())[:90]}"


def measured_part(path: Path, page: str) -> str:
    """What must be sourced: of a README the section "Measured", else the whole page."""
    if path.name != "README.md":
        return page
    _, _, after = page.partition("\n## Measured\n")
    return after.partition("\n## ")[0]


def problems_of(path: Path, page: str) -> list[str]:
    """All that is wrong with a page."""
    found = [*wrong_tables(page), *wrong_stamps(page), *wrong_numbers(page)]
    found += sourceless_numbers(measured_part(path, page))
    if path in OTHERS and EXEMPT[0] in page:
        found.append(f"say which numbers were chosen: <!-- set-up: ... -->, not {EXEMPT[0]}")
    return [f"{path.relative_to(ROOT)}: {problem}" for problem in found]


def corrected(page: str) -> str:
    """A page with the tables and numbers of the result files."""

    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found[1]} -->\n\n{TABLES[found[1]]()}\n"

    def number(found: re.Match[str]) -> str:
        measured = result_tables.looked_up(found["place"])
        if agrees(found["number"], measured):
            return found[0]
        return f"{rounded(found['number'], measured)}{found['after']}<!-- {found['place']} -->"

    def stamp(found: re.Match[str]) -> str:
        return f"<!-- made: {found[1]} -->\n{result_tables.stamp(found[1])}\n"

    return PLACED.sub(number, MADE.sub(stamp, TABLE.sub(table, page)))


def rounded(like: str, measured: float) -> str:
    """A number in the manner of another: as many decimals, and a zero before the point or none."""
    exponent = decimals(like).as_tuple().exponent
    assert isinstance(exponent, int)
    text = f"{measured:.1e}" if "e" in like else f"{measured:,.{max(-exponent, 0)}f}"
    if re.match(r"[−+-]?\.", like):
        text = re.sub(r"^(-?)0\.", r"\1.", text)
    return ("+" if like[0] == "+" and measured >= 0 else "") + text.replace("-", "−")


def wrong_comparison() -> list[str]:
    """Cells of comparison.md that the shipped traces do not give."""
    found = []
    for title in RECOMPUTED:
        suite = SUITES[title]
        if suite.missing():
            continue
        printed = result_tables.table("comparison", f"{title}: ")
        for (sampler, column), value in recomputed(suite).items():
            cell = printed.cell(sampler, column)
            if not agrees(cell, value):
                found.append(
                    f"comparison.md, {title}, {sampler}, {column}: {cell}, not {value:.4f}"
                )
    return found


def recomputed(suite: Suite) -> dict[tuple[str, str], float]:
    """Regrets at the marks of the samplers that ran on the whole suite, by sampler and column.

    With traces of FisherSampler's version that comparison.md names, ranks too.
    """
    version = result_tables.text("comparison").partition("source digest ")[2].partition(".")[0]
    traces = [
        trace_of(row)
        for key, row in shipped(suite.name).items()
        if not key.startswith(f"{REFERENCE}@") or key.startswith(f"{REFERENCE}@{version}")
    ]
    comparison = compare(suite, traces, suite.final)
    pairs = sorted(set(suite.final))
    whole = [s for s, best in comparison.best.items() if covers(best, pairs)]
    found = {}
    for mark in MARKS:
        losses = comparison.losses(whole, pairs, mark)
        for name, column in zip(whole, losses.T, strict=True):
            found[name, f"regret {mark}"] = float(column.mean())
        if REFERENCE in whole:
            for name, rank in zip(whole, statistics.average_ranks(losses), strict=True):
                found[name, f"rank {mark}"] = float(rank)
    return found


def wrong_coco() -> list[str]:
    """Cells of coco.md of our own runs that the shipped ones do not give.

    The corrected p-values depend on the data sets of COCO's archive, and are not compared.
    """
    console = Console(width=180, file=StringIO(), record=True)
    found = shipped("coco")
    console.print(coco.report(coco.ours(found), found))
    wrong = []
    for given in result_tables.parsed(console.export_text()):
        printed = result_tables.table("coco", given.title)
        texts = [given.columns.index(c) for c in coco_tables.TEXTS if c in given.columns]
        for row in given.rows:
            kept = printed.row(*(row[k] for k in texts))
            cells = zip(given.columns, row, kept, strict=True)
            wrong += [
                f"coco.md, {given.title}, {row[:2]}, {column}: {cell}, not {computed}"
                for column, computed, cell in cells
                if computed != cell and column != "p (Holm)"
            ]
    return wrong


def wrong_curves() -> list[str]:
    """Ends of the curves in COCO's two pictures that are not those of the tables."""
    found = []
    for picture, title in (("coco", "all"), ("coco_groups", "by group")):
        text = (result_tables.RESULTS / f"{picture}.svg").read_text()
        table = result_tables.table("coco", f"Share of COCO's targets reached, {title}")
        for said in text.partition("<desc>")[2].partition("</desc>")[0].split("; "):
            panel, _, ends = said.partition(": ")
            for name, _, value in (end.rpartition(" ") for end in ends.split(", ")):
                cell = table.cell((*panel.split(", "), name), "50 D")
                if cell != value:
                    found.append(f"{picture}.svg: {panel}, {name}: {value}, measured {cell}")
    return found


def wrong_picture() -> list[str]:
    """Ends of the lines in the README's picture that are not those of the tables.

    FisherSampler's regret is that of the present version, and not compared.
    """
    text = (result_tables.RESULTS / "regret.svg").read_text()
    found = []
    for said in text.partition("<desc>")[2].partition("</desc>")[0].split("; "):
        sampler, kind, which, value = said.split()
        if kind == "median":
            cell = result_tables.table("latency").cell(("continuous", sampler, "5", which), kind)
        elif sampler != REFERENCE:
            table = result_tables.table("comparison", "BBOB 5-D: ")
            cell = table.cell(sampler, f"{kind} {which}")
        else:
            continue
        if not agrees(cell, float(value)):
            found.append(f"regret.svg: {said}, measured {cell}; run python -m experiments.regret")
    return found


def covers(best: Mapping[Pair, Array], pairs: Sequence[Pair]) -> bool:
    """Whether there is a whole run of each pair."""
    return all(pair in best and len(best[pair]) >= MARKS[-1] for pair in pairs)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("verify", __doc__)
    parser.add_argument("--write", action="store_true", help="correct the pages")
    args = parser.parse_args(argv)
    if args.write:
        for path in PAGES:
            page = path.read_text()
            for problem in (*wrong_tables(page), *wrong_stamps(page), *wrong_numbers(page)):
                print(f"corrected, look at it: {path.name}: {problem}")
            path.write_text(corrected(page))
    pages = {path: path.read_text() for path in PAGES}
    found = [problem for path, page in pages.items() for problem in problems_of(path, page)]
    found += [*wrong_comparison(), *wrong_coco(), *wrong_curves(), *wrong_picture()]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    texts = "".join(pages.values())
    tables, numbers = len(TABLE.findall(texts)), len(PLACED.findall(texts))
    print(f"{tables} tables and {numbers} numbers compared, {len(found)} wrong")
    print(f"{texts.count(EXEMPT[1])} paragraphs or tables say that they have no result file")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
