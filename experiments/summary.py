"""What the comparisons say together: one line a peer over all suites, then every suite's tables.

    python -m experiments.summary               of the traces kept in runs/; nothing is run
    python -m experiments.summary --dev         of the development pairs
    python -m experiments.summary --ship        copy the traces to experiments/results/traces
    python -m experiments.summary --source 85942200e4c5

The last takes FisherSampler's traces at that digest of its source, which tells them from those of
every other, in place of the present one's: `comparison.md` can be made again, and gets the runs of
another peer, without new runs of FisherSampler. With --ship those traces are kept.

Written to experiments/results/comparison.md. The unit is the problem (a function of BBOB in one
dimension, a table, a task): a peer's outcome on it is the share of fisher's wins over its seeds and
instances at the last evaluation that both have, a tie counting half. p: Wilcoxon's signed rank of
these shares against one half, corrected by Holm over the peers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from experiments import bbob, hpo, surfaces, tables
from experiments.harness import statistics
from experiments.harness.comparison import (
    REFERENCE,
    Comparison,
    Suite,
    by_group,
    compare,
    current,
    report,
    win_share,
)
from experiments.harness.peers import SAMPLERS, sampler_version
from experiments.harness.provenance import stamp
from experiments.harness.rows import command
from experiments.harness.traces import ship
from experiments.options import command_line

Array = NDArray[np.float64]

RESULT = Path(__file__).parent / "results" / "comparison.md"
SUITES: dict[str, Suite] = {
    "BBOB 5-D": bbob.suite(5),
    "BBOB 10-D": bbob.suite(10),
    "BBOB mixed-integer 5-D": bbob.suite(5, mixint=True),
    "BBOB mixed-integer 10-D": bbob.suite(10, mixint=True),
    "tuning surfaces": surfaces.SUITE,
    "tuning tables": tables.SUITE,
    "real training": hpo.SUITE,
}
COMMANDS = """\
    export OMP_NUM_THREADS=1
    python -m experiments.bbob; python -m experiments.bbob --dimension 10
    python -m experiments.bbob --suite mixint
    python -m experiments.surfaces --data FOLDER
    python -m experiments.tables
    python -m experiments.hpo
"""


def outcomes(comparison: Comparison, peer: str) -> tuple[Array, Array]:
    """Fisher's share of wins on every problem, and the peer's mean loss less fisher's."""
    if REFERENCE not in comparison.best or peer not in comparison.best:
        return np.empty(0), np.empty(0)
    pairs = comparison.paired(peer)
    if not pairs:
        return np.empty(0), np.empty(0)
    losses = comparison.losses((REFERENCE, peer), pairs, comparison.mark(peer))
    wins = np.array([win_share(row[None])[1] for row in losses])
    return by_group(pairs, wins), by_group(pairs, losses[:, 1] - losses[:, 0])


def overall(comparisons: dict[str, Comparison]) -> Table:
    """Wins of fisher against every peer over all suites."""
    table = Table(title="All suites: share of problems won by fisher")
    names = [name for name, c in comparisons.items() if REFERENCE in c.best]
    for name in ("peer", "problems", "fisher wins", "p (Holm)", *names):
        table.add_column(name, justify="left" if name == "peer" else "right")
    rows, raw = [], []
    for peer in SAMPLERS[1:]:
        shares = {name: outcomes(comparisons[name], peer)[0] for name in names}
        together = np.concatenate([np.empty(0), *shares.values()])
        if len(together):
            raw.append(statistics.wilcoxon_p(together - 0.5))
            cells = [f"{s.mean():.0%}" if len(s) else "–" for s in shares.values()]
            rows.append((peer, f"{len(together)}", f"{together.mean():.0%}", cells))
    for (peer, count, share, cells), p in zip(rows, statistics.holm(raw), strict=True):
        table.add_row(peer, count, share, f"{p:.1e}", *cells)
    return table


def weak_points(comparisons: dict[str, Comparison], level: float = 0.05) -> list[str]:
    """For every suite, the peers that are significantly better than fisher (Holm, in the suite)."""
    lines = []
    for name, comparison in comparisons.items():
        found = {peer: outcomes(comparison, peer)[1] for peer in SAMPLERS[1:]}
        found = {peer: differences for peer, differences in found.items() if len(differences)}
        if not found:
            continue
        p_values = statistics.holm([statistics.wilcoxon_p(d) for d in found.values()])
        worse = [
            f"{peer} (p = {p:.1e})"
            for (peer, differences), p in zip(found.items(), p_values, strict=True)
            if p < level and differences.mean() < 0
        ]
        verdict = ", ".join(worse) if worse else "none"
        lines.append(f"- {name}: peers significantly better than fisher: {verdict}")
    return lines


def scenario_ranks(comparison: Comparison) -> Table:
    """Average ranks on tuning surfaces by scenario, over the runs that every sampler has."""
    samplers = [name for name in SAMPLERS if name in comparison.best]
    pairs = sorted(set.intersection(*(set(comparison.best[name]) for name in samplers)))
    mark = min(len(comparison.best[name][pair]) for name in samplers for pair in pairs)
    losses = comparison.losses(samplers, pairs, mark)
    scenario = np.array([problem.partition("/")[0] for problem, _ in pairs])
    table = Table(title=f"Average rank on tuning surfaces at {mark}")
    for name in ("scenario", "runs", *samplers):
        table.add_column(name, justify="left" if name == "scenario" else "right")
    for each in [*dict.fromkeys(scenario.tolist()), "all"]:
        chosen = losses[(scenario == each) | (each == "all")]
        ranks = statistics.average_ranks(chosen)
        table.add_row(each, f"{len(chosen)}", *(f"{rank:.2f}" for rank in ranks))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("summary", __doc__, "dev ship")
    parser.add_argument("--source", help="digest of FisherSampler's source; default: the present")
    args = parser.parse_args(argv)
    if args.ship:
        for name in dict.fromkeys(suite.name for suite in SUITES.values()):
            print(ship(name, SAMPLERS, args.source))
        return
    source = args.source or sampler_version(REFERENCE)
    comparisons = {
        name: compare(suite, current(suite, args.source), suite.dev if args.dev else suite.final)
        for name, suite in SUITES.items()
        if suite.missing() is None
    }
    comparisons = {name: c for name, c in comparisons.items() if len(c.best) > 1}
    console = Console(width=180, record=True)
    console.print(overall(comparisons))
    for line in weak_points(comparisons):
        console.print(line, highlight=False)
    for name, comparison in comparisons.items():
        console.print(report(name, comparison))
        if SUITES[name] is surfaces.SUITE:
            console.print(scenario_ranks(comparison))
    without = [name for name, c in comparisons.items() if REFERENCE not in c.best]
    if without:
        console.print(
            f"{RESULT.name} is left as it is: no traces of {REFERENCE} at source {source} on "
            f"{', '.join(without)}; make them, or give the --source of those that are kept"
        )
    elif comparisons and not args.dev:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(
            "# Samplers compared\n\n"
            f"fisher is `FisherSampler` at source digest {source}. Made by\n\n"
            f"{COMMANDS}    {command('summary', argv)}\n\n"
            f"{stamp()}\n\n```text\n{console.export_text()}```\n"
        )


if __name__ == "__main__":
    main()
