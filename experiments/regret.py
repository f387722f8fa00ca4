"""The README's picture: regret against evaluations, and milliseconds a suggestion against trials.

    python -m experiments.regret                experiments/results/regret.svg

Regrets are means of log10 over the 24 functions of BBOB in 5-D, two instances each: those of the
other samplers by the traces that are shipped, FisherSampler's by the present version, whose traces
are made if there are none (a minute). Milliseconds are those of experiments/results/latency.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from experiments import bbob
from experiments.harness.comparison import DEFAULT_SAMPLERS, compare
from experiments.harness.traces import Run, collect
from experiments.options import command_line
from experiments.pages import SAMPLERS
from experiments.result_tables import number, table

RESULT = Path(__file__).parent / "results" / "regret.svg"
WIDTH, HEIGHT = 800, 340
LEFT, TOP, BOTTOM = 52, 58, 292
LATENCY_SAMPLERS = ("fisher", "tpe", "gp")
TRIALS = (50, 200, 1000)
BUDGET = 100
FIRST = 10  # evaluations that all samplers share
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #6e7681 }
.title { font-weight: 600; font-size: 14px }
.grid { stroke: #8884; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.fisher { stroke: #d55e00 } .gp { stroke: #2f8fd0 } .tpe { stroke: #009e73 }
.cmaes { stroke: #cc79a7 } .random { stroke: #8b8b8b }
.line.fisher { stroke-width: 3.5 }
text.fisher { fill: #d55e00; font-weight: 600 } text.gp { fill: #2f8fd0 }
text.tpe { fill: #009e73 } text.cmaes { fill: #cc79a7 } text.random { fill: #8b8b8b }
text.fisher, text.gp, text.tpe, text.cmaes, text.random { stroke: none }
"""

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Panel:
    """Where a chart is drawn, with its axes.

    Attributes:
        left: Pixels to the left end of the x axis.
        right: To its right end.
        x: Values of x to shares of the axis.
        y: Likewise, 0 at the bottom.
    """

    left: float
    right: float
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        across = self.left + self.x(x) * (self.right - self.left)
        return across, BOTTOM - self.y(y) * (BOTTOM - TOP)

    def lines(self, named: dict[str, Sequence[tuple[float, float]]]) -> str:
        """The samplers' lines, with their names at the ends."""
        pixels = {name: [self.at(*point) for point in points] for name, points in named.items()}
        heights = spread({name: points[-1][1] for name, points in pixels.items()})
        parts = []
        for name, points in pixels.items():
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline class="line {name}" points="{path}"/>')
            place = f'x="{self.right + 6:.0f}" y="{heights[name] + 4:.1f}"'
            parts.append(f'<text class="{name}" {place}>{SAMPLERS[name]}</text>')
        return "".join(parts)

    def frame(self, title: str, x_name: str, x: Sequence[float], y: dict[float, str]) -> str:
        """Title, grid and the names of the axes."""
        parts = [f'<text class="title" x="{self.left - 40:.0f}" y="22">{escape(title)}</text>']
        for value, text in y.items():
            _, height = self.at(x[0], value)
            place = f'x="{self.left - 6:.0f}" y="{height + 4:.1f}"'
            parts.append(
                f'<path class="grid" d="M{self.left:.0f} {height:.1f}H{self.right:.0f}"/>'
                f'<text text-anchor="end" {place}>{text}</text>'
            )
        for value in x:
            across, _ = self.at(value, next(iter(y)))
            parts.append(
                f'<text text-anchor="middle" x="{across:.1f}" y="{BOTTOM + 20}">{value:g}</text>'
            )
        middle = (self.left + self.right) / 2
        parts.append(
            f'<text text-anchor="middle" x="{middle:.0f}" y="{BOTTOM + 40}">{x_name}</text>'
        )
        return "".join(parts)


def spread(heights: dict[str, float], gap: float = 16) -> dict[str, float]:
    """Heights in the same order, at least a gap apart."""
    found: dict[str, float] = {}
    for name in sorted(heights, key=lambda name: heights[name]):
        found[name] = max([heights[name], *(height + gap for height in found.values())])
    return found


def linear(low: float, high: float) -> Scale:
    """Shares of an axis from low to high."""
    return lambda value: (value - low) / (high - low)


def logarithmic(low: float, high: float) -> Scale:
    """The same in logarithms."""
    return lambda value: math.log(value / low) / math.log(high / low)


def regret_curves() -> dict[str, list[float]]:
    """Mean log10 regret of each sampler after 1, 2, … evaluations."""
    suite = bbob.suite(5)
    runs = [
        Run(s, problem, seed, BUDGET) for problem, seed in suite.final for s in DEFAULT_SAMPLERS
    ]
    comparison = compare(suite, collect(suite.name, runs, suite.work, workers=1), suite.final)
    return {
        name: np.mean([best[:BUDGET] for best in runs.values()], axis=0).tolist()
        for name, runs in comparison.best.items()
    }


def milliseconds() -> dict[str, list[float]]:
    """Median CPU milliseconds of each sampler after 50, 200 and 1,000 trials in 5-D."""
    found = table("latency")
    return {
        name: [number(found.cell(("continuous", name, "5", str(n)), "median")) for n in TRIALS]
        for name in LATENCY_SAMPLERS
    }


def picture(curves: dict[str, list[float]], times: dict[str, list[float]]) -> str:
    """The two charts as one SVG."""
    top = max(curve[FIRST - 1] for curve in curves.values())
    low = min(curve[-1] for curve in curves.values()) - 0.15
    left = Panel(LEFT, 318, linear(FIRST, BUDGET), linear(min(low, 0), top))
    right = Panel(500, 676, logarithmic(TRIALS[0], TRIALS[-1]), logarithmic(1, 3000))
    powers = {float(k): f"10{'⁰¹²³'[k]}" for k in range(math.floor(top) + 1)}
    parts = [
        left.frame("Mean regret, 24 BBOB functions in 5-D", "evaluations", (10, 50, 100), powers),
        right.frame(
            "Milliseconds a suggestion, 5-D",
            "trials",
            TRIALS,
            {1: "1", 10: "10", 100: "100", 1000: "1000"},
        ),
    ]
    seen = range(FIRST, BUDGET + 1)
    parts.append(left.lines({name: [(k, c[k - 1]) for k in seen] for name, c in curves.items()}))
    parts.append(
        right.lines({name: list(zip(TRIALS, ms, strict=True)) for name, ms in times.items()})
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        "<title>Regret against evaluations, and milliseconds a suggestion</title>"
        f"<desc>{described(curves, times)}</desc>"
        f"<style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def described(curves: dict[str, list[float]], times: dict[str, list[float]]) -> str:
    """The numbers at the ends of the lines, which `experiments.verify` compares with the tables."""
    ends = [f"{name} regret {BUDGET} {curve[-1]:.3f}" for name, curve in curves.items()]
    ends += [
        f"{name} median {n} {value:.2f}"
        for name, values in times.items()
        for n, value in zip(TRIALS, values, strict=True)
    ]
    return "; ".join(ends)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("regret", __doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    curves = regret_curves()
    args.output.write_text(picture(curves, milliseconds()))
    ends = ", ".join(f"{name} {curve[-1]:.3f}" for name, curve in curves.items())
    print(f"{args.output}: log10 regret after {BUDGET}: {ends}")


if __name__ == "__main__":
    main()
