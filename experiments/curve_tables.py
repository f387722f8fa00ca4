"""Tables of learning curves of YAHPO's networks, in the form that `experiments.curves` reads.

    python -m experiments.curve_tables --yahpo FOLDER --out DIR
    python -m experiments.curves --data DIR --all --workers 4

Of each task of lcbench (neural networks on tabular data; Zimmer et al. 2021, by the surrogate of
YAHPO Gym: Pfisterer et al. 2022) 1,000 random configurations with their validation error, in per
cent, after each of epochs 1 to 52. Those for development are the tasks that `experiments.surfaces`
chooses methods on; with --final the others. A surrogate's curves are smoother than real ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from rich.progress import track

from experiments import surfaces, yahpo
from experiments.harness.problems import Params

SCENARIO, EPOCHS, CONFIGURATIONS = "lcbench", 52, 1000
_WORST = 100.0  # per cent


def configurations(surface: yahpo.Surface, count: int) -> tuple[list[Params], NDArray[np.float64]]:
    """Random configurations, and their places in the unit cube, ``(count, d)``."""
    rng = np.random.default_rng(0)
    columns, places = {}, []
    for name, d in surface.space.items():
        assert isinstance(d, FloatDistribution | IntDistribution), name  # all of lcbench are
        whole = isinstance(d, IntDistribution)
        low, high = (np.log([d.low, d.high]) if d.log else np.array([d.low, d.high])).tolist()
        drawn = low + rng.random(count) * (high - low)
        value = np.exp(drawn) if d.log else drawn
        columns[name] = np.rint(value).astype(int) if whole else np.clip(value, d.low, d.high)
        kept = np.log(columns[name]) if d.log else columns[name]
        places.append((kept - low) / (high - low))
    rows = zip(*(c.tolist() for c in columns.values()), strict=True)
    params = [dict(zip(columns, row, strict=True)) for row in rows]
    return params, np.clip(np.stack(places, 1), 0.0, 1.0)


def write(folder: Path, task: str, out: Path, count: int = CONFIGURATIONS) -> Path:
    """The table of one task as an .npz file."""
    surface = yahpo.surface(f"{SCENARIO}/{task}", folder)
    params, u = configurations(surface, count)
    accuracy = -np.stack([surface.losses(params, epoch=e) for e in range(1, EPOCHS + 1)], 1)
    path = out / f"{SCENARIO}_{task}.npz"
    names = np.array(list(surface.space))
    np.savez(path, parameters=names, u=u, valid_loss=_WORST - accuracy)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--yahpo", type=Path, required=True, help="folder of YAHPO's scenarios")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--final", action="store_true", help="final tasks in place of development")
    parser.add_argument("--quick", action="store_true", help="one task")
    args = parser.parse_args(argv)
    tasks = (surfaces.FINAL if args.final else surfaces.DEVELOPMENT)[SCENARIO]
    args.out.mkdir(parents=True, exist_ok=True)
    for task in track(tasks[:1] if args.quick else tasks, "tables"):
        write(args.yahpo, task, args.out)


if __name__ == "__main__":
    main()
