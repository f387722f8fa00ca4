"""K-FAC without any argument but the likelihood against AdamW with the best of five learning rates.

    python -m experiments.development --write       some 20 minutes on two cores
    python -m experiments.development --seeds 1 --only "GPT 16 x 64"

Sixteen networks on which the defaults were chosen and four that were not used for it, each with
the steps of one short run. The loss is the mean of ten batches. "Steps" are those after which
K-FAC's is at most AdamW's last, as a share of AdamW's; a run diverges if its loss is not finite or
at some time more than twice the first. Learning rates of AdamW are the best in the mean over the
same seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from experiments.harness import rows
from experiments.harness.provenance import source_digest
from experiments.options import command_line
from experiments.workloads import DEVELOPMENT, HELD_OUT, smoothed, train
from fisherbo.training import KFAC

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
WORKLOADS = {**DEVELOPMENT, **HELD_OUT}


@cache
def version() -> str:
    """Of fisherbo's training source, as the run began."""
    return source_digest("training")


@dataclass(frozen=True)
class Run:
    """One training; ``rate`` is AdamW's, 0 is K-FAC."""

    workload: str
    rate: float
    seed: int

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"AdamW {self.rate:g}@{torch.__version__}" if self.rate else f"K-FAC@{version()}"
        return f"development/{who}/{self.workload}/{self.seed}"


def result(run: Run) -> rows.Row:
    torch.set_num_threads(1)
    workload = WORKLOADS[run.workload]()
    losses, seconds = train(
        workload,
        lambda model: (
            torch.optim.AdamW(model.parameters(), run.rate)
            if run.rate
            else KFAC(model, likelihood=workload.likelihood)
        ),
        run.seed,
    )
    return {"losses": [round(x, 6) for x in losses], "seconds": round(seconds[-1], 3)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("development", __doc__, "workers write")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    args = parser.parse_args(argv)
    runs = [Run(w, r, s) for w in args.only for r in (0.0, *RATES) for s in range(args.seeds)]
    found = rows.collect("development", runs, result, workers=args.workers)
    console = Console(width=130, record=True)
    columns = (
        "first",
        "AdamW's lr",
        "AdamW",
        "K-FAC",
        "steps",
        "largest / first",
        "CPU s / AdamW's",
    )
    for title, names in (("development", DEVELOPMENT), ("held out", HELD_OUT)):
        table = Table(title=f"{title}: medians over {args.seeds} seeds")
        for column in ("network, batch size", *columns, "diverged"):
            table.add_column(column, justify="left" if column.startswith("network") else "right")
        for name in [name for name in names if name in args.only]:
            table.add_row(name, *row_of(name, found, args.seeds))
        if table.rows:
            console.print(table)
    if args.write:
        command = "python -m experiments.development --write"
        rows.write(console, "development", "K-FAC's defaults", f"Made by `{command}`")


def row_of(name: str, found: dict[Run, rows.Row], seeds: int) -> list[str]:
    def curves(rate: float) -> list[np.ndarray]:
        return [smoothed(found[Run(name, rate, seed)]["losses"]) for seed in range(seeds)]

    last = {rate: float(np.mean([curve[-1] for curve in curves(rate)])) for rate in RATES}
    best = min(last, key=lambda rate: last[rate] if math.isfinite(last[rate]) else math.inf)
    adamw, kfac = curves(best), curves(0.0)
    shares = [first_at(k, a[-1]) / len(a) for k, a in zip(kfac, adamw, strict=True)]
    peaks = [float(k.max() / k[0]) for k in kfac]
    spent = [
        found[Run(name, 0.0, seed)]["seconds"] / found[Run(name, best, seed)]["seconds"]
        for seed in range(seeds)
    ]
    share = float(np.median(shares))
    return [
        f"{np.median([k[0] for k in kfac]):.3g}",
        f"{best:g}",
        f"{np.median([a[-1] for a in adamw]):.3g}",
        f"{np.median([k[-1] for k in kfac]):.3g}",
        f"{share:.2f}" if math.isfinite(share) else "not reached",
        f"{max(peaks):.2f}",
        f"{np.median(spent):.2f}",
        f"{sum(not peak <= 2 for peak in peaks)} of {seeds}",
    ]


def first_at(curve: np.ndarray, goal: float) -> float:
    """Number of steps after which the curve is at most the goal; infinite if it never is."""
    reached = np.flatnonzero(curve <= goal)
    return float(reached[0] + 1) if len(reached) else math.inf


if __name__ == "__main__":
    main()
