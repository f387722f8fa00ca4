"""The tables of README.md and docs/benchmarks.md, made from experiments/results.

    python -m experiments.verify            compares the pages with them
    python -m experiments.verify --write    puts them into the pages

A page has the name of a table in a comment above it. Cells are those of the result files; the best
of a row is bold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from experiments.result_tables import ResultTable, number, table, tables

SAMPLERS = {
    "fisher": "FisherSampler",
    "gp": "GPSampler",
    "tpe": "TPESampler",
    "cmaes": "CmaEsSampler",
    "random": "RandomSampler",
}
PEERS = {
    "smac": "SMAC3",
    "botorch": "BoTorchSampler",
    "hebo": "HEBO",
    "lq": "lq-CMA-ES",
    **SAMPLERS,
}
SUITES = {
    "BBOB 5-D": "BBOB 5-D, 24 functions × 2",
    "BBOB 10-D": "BBOB 10-D, 24 × 2",
    "BBOB mixed-integer 5-D": "BBOB mixed-integer 5-D, 24 × 2",
    "tuning tables": "tuning tables, 15 × 8",
    "real training": "real training, 25 × 4",
}
SURFACES = "tuning surfaces"
DIMENSIONS = ("2-D", "3-D", "5-D", "10-D")
RECOMPUTED = tuple(SUITES)
"""Suites whose regrets the shipped traces give."""
OPTIMIZERS = ("K-FAC", "EKFAC", "Adam", "AdamW", "SGD", "SOAP", "Shampoo")
LOOPS = {
    "source code, GPT": "GPT on Python's source",
    "digits, MLP": "digits, perceptron of 256 units",
    "table, MLP": "table of 20,000 rows, perceptron",
    "digits, ResNet": "digits, ResNet with BatchNorm",
}
OBJECTIVES = {
    "Two objectives": "two objectives, bbob-biobj",
    "Three objectives, DTLZ": "three, DTLZ and WFG",
    "Three objectives, tuning": "three, tuning surfaces",
}
SPACES = [("continuous", d, n) for d in ("5", "20") for n in ("50", "200", "1000")]
ASCENTS = {
    "natural": "posterior's metric",
    "score": "score's metric",
    "euclidean": "Euclidean",
    "lbfgsb": "L-BFGS-B, all starts at once",
    "lbfgsb-seq": "L-BFGS-B, one by one",
    "coordinates": "GPSampler's way",
    "random": "random",
}
FAULTS = {
    "one value": "one value is",
    "penalty": "penalty is",
    "constraint told in part: log10 regret after": "constraint is told",
}


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(typeset, line)) + " |" for line in lines)


def typeset(cell: str) -> str:
    """A cell with a minus and an infinity as in print."""
    return re.sub(r"(?<![\w-])-(?=[\d.∞])", "−", cell.replace("inf", "∞"))


def best_bold(cells: Sequence[str], best: Callable[[Sequence[float]], float] = min) -> list[str]:
    """The cells, with those bold whose first number is the best."""
    values = [number(cell) if cell[0] in "-.0123456789" else math.nan for cell in cells]
    first = best([value for value in values if not math.isnan(value)])
    return [f"**{c}**" if v == first else c for c, v in zip(cells, values, strict=True)]


def reaching(found: ResultTable, names: Sequence[str], column: str) -> list[str]:
    """Steps or seconds of each optimizer to a target, the least bold, and who got there."""
    cells = best_bold([found.cell(name, column) for name in names])
    counts = [found.cell(name, "reached") for name in names]
    return [
        cell if number(count) == number(count, 2) else f"{cell} ({count})"
        for cell, count in zip(cells, counts, strict=True)
    ]


def optimizers() -> str:
    """Seven optimizers on four networks."""
    rows = []
    for title in ("autoencoder", "convnet", "transformer"):
        found = table("kfac", f"{title}:")
        rows.append([f"{title}, steps", *reaching(found, OPTIMIZERS, "steps")])
        rows.append([f"{title}, CPU seconds", *reaching(found, OPTIMIZERS, "CPU s")])
    found = table("kfac", "curves:")
    last = best_bold([found.cell(name, "15 s") for name in OPTIMIZERS])
    rows.insert(2, ["curves, loss after 15 CPU seconds", *last])
    return markdown(["problem", *OPTIMIZERS], rows)


def optimizer_ratios() -> str:
    """Steps and seconds as multiples of K-FAC's, with intervals, on the autoencoder."""
    rows = []
    found = table("kfac", "autoencoder:")
    for label, index in (("steps", 3), ("CPU seconds", 5)):
        rows.append([label, *(found.row(name)[index] for name in OPTIMIZERS[1:])])
    return markdown(["× K-FAC's (95 %)", *OPTIMIZERS[1:]], rows)


def step_costs() -> str:
    """CPU time of a step over Adam's."""
    found = table("kfac", "CPU ms of a step")
    columns = ("Adam", "K-FAC", "K-FAC / Adam", "EKFAC", "EKFAC / Adam")
    rows = [[row[0], *(found.cell(row[0], column) for column in columns)] for row in found.rows]
    return markdown(["CPU ms of a step", *columns], rows)


def loops(kind: str) -> str:
    """Steps and seconds in minibatch loops, with defaults or tuned."""
    names = [row[0] for row in table("minibatch").rows]
    rows = []
    for title, label in LOOPS.items():
        found = table("minibatch", f"{title}, {kind}:")
        rows.append([f"{label}: steps", *reaching(found, names, "steps")])
        rows.append(["CPU seconds", *reaching(found, names, "CPU s")])
        rows.append(["a step, in AdamW's", *(found.cell(name, "step / AdamW's") for name in names)])
    return markdown(["problem", *names], rows)


def development() -> str:
    """K-FAC with its defaults on the networks of the development suite and on those held out."""
    columns = ("AdamW's lr", "AdamW", "K-FAC", "steps", "CPU s / AdamW's", "diverged")
    rows = []
    for title in ("development", "held out"):
        found = table("development", title)
        for row in found.rows:
            rows.append([title, row[0], *(found.cell(row[0], column) for column in columns)])
    head = ["", "network, batch size", "AdamW's best lr", "its loss", "K-FAC's loss"]
    return markdown([*head, "steps to AdamW's loss, in its steps", *columns[4:]], rows)


def ranks() -> str:
    """Average ranks of five samplers on five suites after 25, 50 and 100 evaluations."""
    rows = []
    for title, label in SUITES.items():
        found = table("comparison", f"{title}: ")
        marks = [
            best_bold([found.cell(name, f"rank {mark}") for name in SAMPLERS])
            for mark in (25, 50, 100)
        ]
        rows.append([label, *(" / ".join(cells) for cells in zip(*marks, strict=True))])
    return markdown(["suite", *SAMPLERS.values()], rows)


def regrets() -> str:
    """Mean regret of five samplers after 100 evaluations."""
    rows = []
    for title in RECOMPUTED:
        label = SUITES[title]
        found = table("comparison", f"{title}: ")
        kind = "log10" if title.startswith("BBOB") else "normalised"
        cells = best_bold([found.cell(name, "regret 100") for name in SAMPLERS])
        rows.append([label, kind, *cells])
    return markdown(["suite", "mean regret", *SAMPLERS.values()], rows)


def wins() -> str:
    """Shares of the problems on which FisherSampler is better."""
    found = table("comparison", "All suites")
    suites = (*SUITES, SURFACES)
    columns = ("problems", "fisher wins", "p (Holm)", *suites)
    rows = [
        [PEERS[row[0]], *(found.cell(row[0], column) for column in columns)] for row in found.rows
    ]
    return markdown(["against", "problems", "wins", "p (Holm)", *suites], rows)


def surfaces() -> str:
    """Normalised regret on tuning surfaces."""
    found = table("comparison", f"{SURFACES}: ")
    columns = ("regret 15", "regret 25", "regret 50", "fisher wins", "p (Holm)", "CPU ms")
    rows = [
        [PEERS[row[0]], *(found.cell(row[0], column) for column in columns)] for row in found.rows
    ]
    head = ["sampler", *columns[:3], "FisherSampler wins", "p (Holm)", "CPU ms a suggestion"]
    return markdown(head, rows)


def scenario_ranks() -> str:
    """Average ranks on tuning surfaces by scenario."""
    found = table("comparison", "Average rank on tuning surfaces")
    names = [PEERS[name] for name in found.columns[2:]]
    rows = [[*row[:2], *best_bold(row[2:])] for row in found.rows]
    return markdown(["scenario", "runs", *names], rows)


def late() -> str:
    """Log10 regret of BBOB to 50 evaluations a dimension."""
    rows = []
    for dimension in DIMENSIONS:
        found = table("late", f"BBOB {dimension}: ")
        last = [c for c in found.columns if c.startswith("regret ")][-1]
        marks = [f"regret {mark}" for mark in (25, 50, 100)]
        for row in found.rows:
            told = dict(zip(found.columns, row, strict=True))
            early = [
                told[c] if c in marks else "–" for c in ("regret 25", "regret 50", "regret 100")
            ]
            end = f"{told[last]} ({last.removeprefix('regret ')})"
            tested = [told[c] for c in ("fisher wins", "p (Holm)", "CPU ms")]
            rows.append([dimension, PEERS[row[0]], *early, end, *tested])
    head = ["", "sampler", "after 25", "50", "100", "at the end", "FisherSampler wins at the end"]
    return markdown([*head, "p (Holm)", "CPU ms a suggestion"], rows)


def partial_runs() -> str:
    """Samplers that ran on 5-D BBOB with fewer runs or evaluations."""
    found = table("comparison", "BBOB 5-D: samplers")
    columns = ("runs", "evaluations", "its regret", "fisher's", "fisher wins", "p (Holm)", "CPU ms")
    rows = [
        [PEERS[row[0]], *(found.cell(row[0], column) for column in columns)] for row in found.rows
    ]
    head = ["sampler", "runs", "evaluations", "its log10 regret", "FisherSampler's"]
    return markdown([*head, "FisherSampler wins", "p (Holm)", "CPU ms a suggestion"], rows)


def latency() -> str:
    """Median milliseconds a suggestion."""
    found = table("latency")
    spaces = [*SPACES, ("mixed", "10", "100")]
    rows = []
    for space in spaces:
        medians = [found.cell((*space, name), "median") for name in ("fisher", "gp", "tpe")]
        ratios = [found.cell((*space, "fisher"), name) for name in ("GPSampler / it", "it / floor")]
        rows.append([f"{space[0]}, d = {space[1]}, n = {space[2]}", *medians, *ratios])
    head = ["space, trials", "FisherSampler", "GPSampler", "TPESampler", "GPSampler's, in ours"]
    return markdown([*head, "ours, in bare linear algebra"], rows)


def scale() -> str:
    """The last 1,000 of 10,000 trials."""
    found = table("scale")
    columns = ("median ms", "peak MB", "best of tail", "median of tail")
    rows = [
        [SAMPLERS[row[0]], *(found.cell(row[0], column) for column in columns)]
        for row in found.rows
    ]
    return markdown(["sampler", *columns[:2], "best value", "median value"], rows)


def faults() -> str:
    """What faulty values and partly told constraints cost."""
    rows = []
    for title, column in FAULTS.items():
        found = table("robustness", title)
        for row in found.rows:
            what = found.cell(row, column)
            told = (found.cell(row, name) for name in ("mean", "95 %", "verdict"))
            rows.append([f"{column} {what}", *told])
    return markdown(["", "mean", "95 %", "verdict"], rows)


def against(file: str) -> str:
    """Samplers by log10 regret, each against ours on the same runs."""
    rows = []
    for found in tables(file):
        for row in found.rows:
            if "its regret" in found.columns:
                names = ("problems", "runs", "its regret", "fisher's", "fisher wins", "p (Holm)")
                rows.append([PEERS[row[0]], *(found.cell(row[0], name) for name in names)])
            elif row[0] != "fisher":
                problems, runs = (str(round(number(found.title, which))) for which in (1, 2))
                last = max(c for c in found.columns if c.startswith("regret"))
                regrets = found.cell(row[0], last), found.cell("fisher", last)
                compared = (found.cell(row[0], name) for name in ("fisher wins", "p (Holm)"))
                rows.append([PEERS[row[0]], problems, runs, *regrets, *compared])
    head = ["against", "problems", "runs", "its log10 regret", "FisherSampler's"]
    return markdown([*head, "FisherSampler wins", "p (Holm)"], rows)


def told_in_part() -> str:
    """A constraint that is told in part, against other samplers."""
    found = table("robustness", "constraint told in part: log10 regret less")
    columns = ("constraint is told", "mean", "95 %", "pairs won", "p (Holm)", "verdict")
    rows = [
        [SAMPLERS[row[1]], *(found.cell(row, column) for column in columns)] for row in found.rows
    ]
    return markdown(["against", *columns], rows)


def ascents() -> str:
    """How far below the best value ascents of the acquisition stop, and their time until then."""
    rows = []
    for found in tables("ascent"):
        methods = {row[0]: row for row in found.rows}
        cells = [
            f"{methods[name][-1]} ({methods[name][8]})" if name in methods else "–"
            for name in ASCENTS
        ]
        rows.append([found.title.partition(":")[0], *cells])
    return markdown(["gap in nats (CPU ms)", *ASCENTS.values()], rows)


def rotation() -> str:
    """Losses without a rotation of the kernel, and with it."""
    rows = []
    for found in tables("rotation"):
        for row, dimension in zip(found.rows, dimensions(found), strict=True):
            what = (
                found.cell(row, name) for name in ("runs", "at 100", "better", "worse", "alike")
            )
            label = f"{row[0]}, {dimension}" if row[0][1:].isdigit() else row[0]
            rows.append([label, *what, found.cell(row, "p runs")])
    head = ["functions", "runs", "loss after 100 without, with", "better", "worse", "alike"]
    return markdown([*head, "p"], rows)


PRUNERS = {
    "FisherPruner": "FisherPruner",
    "none": "none",
    "median": "MedianPruner",
    "percentile75": "PercentilePruner(75)",
    "halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "patient": "PatientPruner",
    "early1": "one report for all",
    "early5": "five reports for all",
}
SHOWN = ("FisherPruner", "none", "percentile75", "hyperband", "early5")
ALL_CURVES = "all of them"


def pruning() -> str:
    """Steps until a complete trial is as good as the best of 50 whole ones, by kind of curves."""
    columns = ["share [95 %]", "reached", *(f"better % @{mark}" for mark in ("0.1", "0.2", "0.4"))]
    rows = []
    for found in tables("curves"):
        kind, _, runs = found.title.partition(": ")
        for row in found.rows:
            cells = dict(zip(found.columns, row, strict=True))
            ours = cells["sampler"] == "fisher" and cells["pruner"] not in ("FisherPruner", "none")
            if kind != ALL_CURVES and cells["pruner"] in SHOWN and not ours:
                method = SAMPLERS[cells["sampler"]], PRUNERS[cells["pruner"]]
                rows.append([f"{kind}, {runs}", *method, *(cells[column] for column in columns)])
    head = ["curves", "sampler", "pruner", "share of the steps [95 %]", "reached",
            "% better after a tenth", "a fifth", "two fifths"]  # fmt: skip
    return markdown(head, rows)


def pruners() -> str:
    """All samplers and pruners on all curves, each against ours."""
    found = table("curves", ALL_CURVES)
    columns = ["share [95 %]", "reached", "better % @0.2", "wins @0.2", "p"]
    rows = []
    for row in found.rows:
        cells = dict(zip(found.columns, row, strict=True))
        method = SAMPLERS[cells["sampler"]], PRUNERS[cells["pruner"]]
        rows.append([*method, *(cells[column] or "–" for column in columns)])
    head = ["sampler", "pruner", "share of the steps [95 %]", "reached", "% better after a fifth"]
    return markdown([*head, "FisherSampler with FisherPruner wins", "p"], rows)


def stopping() -> str:
    """Where rules end studies on tuning surfaces, and how often what they promise holds."""
    columns = ["rule", "regret", "stopped", "promise kept [95 %]", "median trial", "trials saved"]
    runs = {
        "FisherSampler, another seed:": "",
        "FisherSampler, another seed, bound of": "Gaussian process, ",
        "RandomSampler": "random search, ",
    }
    rows = []
    for title, before in runs.items():
        found = table("stopping", title)
        for row in found.rows:
            if not before or row[0] == "bound, 90%":
                cells = [found.cell(row[:2], column) for column in columns]
                rows.append([before + cells[0], *cells[1:]])
    return markdown(columns, rows)


def stopping_coverage() -> str:
    """How often the true regret is within its bound."""
    found = table("stopping", "Share of the trials")
    return markdown(found.columns, found.rows)


def dimensions(found: ResultTable) -> list[str]:
    """The dimension of each row of a table of rotations: the next one that a group's row names."""
    named, last = [], ""
    for row in reversed(found.rows):
        last = next((d for d in ("10-D", "5-D") if d in row[0]), last)
        named.append(last)
    return named[::-1]


def searches() -> str:
    """FisherSearchCV against other searches of scikit-learn."""
    rows = []
    by_count = table("automl", "Best score after 50 evaluations, differences")
    by_time = table("automl", "Best score at equal time")
    for name in [row[0] for row in by_count.rows]:
        count = [
            by_count.cell(name, c)
            for c in ("median of medians", "wins", "losses", "p (Holm)", "ahead in")
        ]
        time = [by_time.cell(name, c) for c in ("wins", "losses", "p (Holm)")]
        rows.append([name, *count, *time])
    head = ["against", "median over tasks", "won", "lost", "p (Holm)", "ahead in"]
    return markdown([*head, "at equal time: won", "lost", "p (Holm)"], rows)


def perceptrons() -> str:
    """KFACClassifier and KFACRegressor against scikit-learn's perceptrons."""
    found = table("estimators", "K-FAC against each")
    columns = found.columns[1:]
    return markdown(["against", *columns], found.rows)


def perceptron_data() -> str:
    """The same on each data set."""
    found = table("estimators", "Held-out")
    rows = [[*row[:2], row[3], row[4], row[9], row[10]] for row in found.rows]
    head = ["data", "rows × inputs", "K-FAC's score", "less MLP's (s.e.)", "CPU s", "MLP's"]
    return markdown(head, rows)


def ready_spaces() -> str:
    """Test scores of searches in the ready spaces against the libraries' defaults."""
    found = table("spaces", "Against the library's defaults")
    return markdown(list(found.columns), [list(row) for row in found.rows])


def policies() -> str:
    """Returns and costs of policies, ours and peers'."""
    environments = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1")
    by_name = [table("rl", f"{name}: return after") for name in environments]
    rows = [
        [
            row[0],
            *(found.cell(row[0], "policy at the end") for found in by_name),
            " / ".join(found.cell(row[0], "CPU µs a step") for found in by_name),
        ]
        for row in by_name[0].rows
    ]
    return markdown(["method", *environments, "CPU µs a step"], rows)


def policy_pruning() -> str:
    """Recommended settings of policies at equal numbers of environment steps, by pruner."""
    found = table("policy_curves")
    head = [name.replace("@", "after ") for name in found.columns]
    return markdown(head, [list(row) for row in found.rows])


def policy_pairs() -> str:
    """Ours less theirs, paired by seed."""
    found = table("rl", "Ours minus theirs")
    rows = [[*row[:5], row[7]] for row in found.rows]
    head = ["environment", "ours", "theirs", "difference of returns (95 %)", "verdict"]
    return markdown([*head, "CPU of a step, ours / theirs"], rows)


def trust_regions() -> str:
    """Every update of a trust-region method."""
    found = table("rl", "Monotone improvement")
    rows = [row for row in found.rows if row[1] in ("TRPO", "ACKTR")]
    return markdown(found.columns, rows)


def table_models() -> str:
    """Networks of tables beside scikit-learn's baselines."""
    found = table("tables_to_models")
    rows = [[*row[:5], *row[5:8], row[8]] for row in found.rows]
    head = ["table", "rows", "score", "network", "95 %", "logistic, ridge", "lead"]
    return markdown([*head, "gradient boosting", "seconds"], rows)


def hpob(title: str) -> str:
    """FisherSampler beside the published methods of HPO-B."""
    found = table("hpob", title)
    rows = [[row[0].replace("fisher", "FisherSampler"), *row[1:]] for row in found.rows]
    return markdown([c.replace("ours", "FisherSampler") for c in found.columns], rows)


def workers() -> str:
    """Eight workers at once."""
    found = table("citizen", "BBOB 5-D")
    return markdown(found.columns, found.rows)


def studies() -> str:
    """What studies are like: conditions, failures, fixed values, workers, earlier studies."""
    found = table("citizen", "log10 regret")
    return markdown(found.columns, found.rows)


def objectives() -> str:
    """Hypervolumes of two and three objectives, on the pairs of each sampler and FisherSampler."""
    rows = []
    for title, label in OBJECTIVES.items():
        found = table("multi", title)
        for sampler, name in (SAMPLERS | {"nsgaii": "NSGAIISampler"}).items():
            if sampler in found.column("sampler"):
                columns = ("runs", "volume 60, fisher's", "fisher wins 60", "p 60", "CPU ms")
                rows.append([label, name, *(found.cell(sampler, column) for column in columns)])
    head = ["problems", "against", "runs", "its volume, FisherSampler's", "FisherSampler wins"]
    return markdown([*head, "p (Holm)", "CPU ms a suggestion"], rows)


def autosampler() -> str:
    """Share of pairs won against AutoSampler by space and number of trials, and CPU times."""
    found = table("autosampler")
    marks = sorted(set(found.column("trials")), key=int)
    rows = []
    for space, d in dict.fromkeys((row[0], row[1]) for row in found.rows):
        cells = {row[2]: row for row in found.rows if (row[0], row[1]) == (space, d)}
        shares = [autosampler_cell(found, cells[mark]) if mark in cells else "–" for mark in marks]
        last = list(cells.values())[-1]
        rows.append([space, d, *shares, f"{last[8]} ({int(last[2]):,})"])
    heads = [f"{int(mark):,} trials" for mark in marks]
    return markdown(["space", "d", *heads, "AutoSampler's CPU time, in ours (trials)"], rows)


def autosampler_cell(found: ResultTable, row: Sequence[str]) -> str:
    """Share won with the number of pairs; bold where ahead, in italics where behind."""
    cells = dict(zip(found.columns, row, strict=True))
    text = f"{cells['fisher wins']} of {cells['pairs']}"
    mark = {"ahead": "**", "behind": "*"}.get(cells["fisher is"], "")
    return f"{mark}{text}{mark}"


def coco(title: str, *labels: str) -> str:
    """Shares of COCO's targets after 10 D and 50 D evaluations, an algorithm in each column."""
    found = table("coco", title)
    algorithms = list(dict.fromkeys(found.column("algorithm")))
    columns = [found.column(name) for name in (*labels, "algorithm", "10 D", "50 D")]
    cells = {row[:-2]: row[-2:] for row in zip(*columns, strict=True)}
    rows = []
    for label in dict.fromkeys(key[:-1] for key in cells):
        here = [cells.get((*label, name), ("–", "–")) for name in algorithms]
        marked = [best_bold(column, max) for column in zip(*here, strict=True)]
        rows.append([*label, *(" / ".join(pair) for pair in zip(*marked, strict=True))])
    return markdown([*labels, *algorithms], rows)


def coco_leads() -> str:
    """FisherSampler's lead in the share of targets at the end, with its p, by dimension."""
    found = table("coco", "Share of COCO's targets reached, all")
    lead = "FisherSampler's lead [95 %]"
    columns = [found.column(name) for name in ("dimension", "algorithm", lead, "p (Holm)")]
    cells = {(d, a): f"{m}, p = {p}" for d, a, m, p in zip(*columns, strict=True) if m != "–"}
    rows = [
        [name, *(cells.get((d, name), "–") for d in dict.fromkeys(columns[0]))]
        for name in dict.fromkeys(name for _, name in cells)
    ]
    return markdown(["over", *dict.fromkeys(columns[0])], rows)


TABLES: dict[str, Callable[[], str]] = {
    "autosampler": autosampler,
    "optimizers": optimizers,
    "optimizer_ratios": optimizer_ratios,
    "step_costs": step_costs,
    "loops_untuned": partial(loops, "untuned"),
    "loops_tuned": partial(loops, "tuned"),
    "development": development,
    "ranks": ranks,
    "regrets": regrets,
    "wins": wins,
    "partial_runs": partial_runs,
    "surfaces": surfaces,
    "scenario_ranks": scenario_ranks,
    "late": late,
    "coco": partial(coco, "Share of COCO's targets reached, all", "dimension"),
    "coco_groups": partial(coco, "Share of COCO's targets reached, by", "dimension", "group"),
    "coco_leads": coco_leads,
    "latency": latency,
    "scale": scale,
    "faults": faults,
    "constrained": partial(against, "constrained"),
    "functions": partial(against, "functions"),
    "told_in_part": told_in_part,
    "ascents": ascents,
    "objectives": objectives,
    "rotation": rotation,
    "pruning": pruning,
    "pruners": pruners,
    "stopping": stopping,
    "stopping_coverage": stopping_coverage,
    "searches": searches,
    "perceptrons": perceptrons,
    "perceptron_data": perceptron_data,
    "ready_spaces": ready_spaces,
    "policies": policies,
    "policy_pairs": policy_pairs,
    "policy_pruning": policy_pruning,
    "trust_regions": trust_regions,
    "table_models": table_models,
    "hpob": partial(hpob, "All, every method"),
    "hpob_as_published": partial(hpob, "Columns as published, every method"),
    "workers": workers,
    "studies": studies,
}
"""Tables by the names that pages have in their comments."""
