"""TRPO, PPO, ACKTR's step and policy gradient on three environments, against SB3 and sb3-contrib.

    python -m experiments.rl --quick          CartPole-v1, 2 seeds, 8,000 steps
    python -m experiments.rl --write          all of it: 5 seeds, some 40 CPU minutes
    python -m experiments.rl --dev            seeds 100 and 101: settings were chosen on these only

    CartPole-v1   30,000 steps; target 500, the most there is
    Acrobot-v1    100,000 steps; target −90
    Pendulum-v1   150,000 steps; target −250

Every method runs with the same seeds and steps, one thread; peers with the settings of
rl-baselines3-zoo, with its normalisation, and their schedules over these steps (they round the
steps up to whole rollouts). What a policy is worth is the mean return of 20 episodes with its most
probable actions, on the same episodes for all. CPU microseconds are of a training step, all in,
without that evaluation. Intervals are 95 %, bootstrapped over seeds, and differences are paired by
seed: a tie is one whose interval holds 0. Rows are kept in runs/rl.jsonl, a figure goes to
runs/rl.html. Our settings come from seeds 100 to 107; those of PPO on Acrobot-v1 and of TRPO, ACKTR
and PPO on Pendulum-v1 were chosen there a second time, after runs of seeds 0 and 1 with the first
ones had missed the target, and that of TRPO on CartPole-v1 after 3 of its 5 seeds had ended at 500:
the critic's learning rate of 3e-3 ended there on all of 50 seeds from 100 on, 1e-3 on 43.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

import fisherbo
from experiments.harness import rows
from experiments.harness.statistics import mean_interval
from experiments.options import command_line
from fisherbo.rl import train
from fisherbo.rl.settings import Algorithm, described, settings_of

Array = NDArray[np.float64]

STEPS = {"CartPole-v1": 30_000, "Acrobot-v1": 100_000, "Pendulum-v1": 150_000}
TARGETS = {"CartPole-v1": 500.0, "Acrobot-v1": -90.0, "Pendulum-v1": -250.0}
OURS: dict[str, Algorithm] = {
    "TRPO": "trpo",
    "PPO": "ppo",
    "ACKTR": "acktr",
    "policy gradient": "vanilla",
}
PEERS = {"SB3 PPO": "PPO", "sb3-contrib TRPO": "TRPO"}
NAMES = (*OURS, *PEERS)
RIVALS = {"TRPO": "sb3-contrib TRPO", "PPO": "SB3 PPO"}
EPISODES = 20
FIRST_EPISODE = 10_000  # seeds of the episodes that policies are evaluated on
QUARTERS = (0.25, 0.5, 0.75, 1.0)

_NORMALISED: dict[str, Any] = {"normalise_observations": True, "normalise_rewards": True}
# Pendulum's episodes are of 200 steps: rollouts that hold whole ones show every phase alike
_WHOLE_EPISODES: dict[str, Any] = {"n_envs": 10, "rollout": 200, "normalise_observations": False}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "CartPole-v1": {
        "TRPO": {"value_lr": 3e-3},
        "PPO": {"rollout": 64, "gae_lambda": 0.9, "lr": 2e-3},
        "ACKTR": {"gae_lambda": 0.98, "max_kl": 0.02},
        "policy gradient": {},
    },
    "Acrobot-v1": {
        "TRPO": {**_NORMALISED, "max_kl": 0.02},
        "PPO": {
            **{**_NORMALISED, "n_envs": 16, "rollout": 256, "gae_lambda": 0.94, "lr": 3e-4},
            **{"anneal": False, "epochs": 4, "batch_size": 64},
        },
        "ACKTR": {**_NORMALISED, "max_kl": 0.02},
        "policy gradient": {**_NORMALISED},
    },
    "Pendulum-v1": {
        "TRPO": {"gamma": 0.95, "max_kl": 0.03, **_WHOLE_EPISODES},
        "PPO": {"gamma": 0.95, "batch_size": 64, **_WHOLE_EPISODES},
        "ACKTR": {"gamma": 0.95, "max_kl": 0.03, **_WHOLE_EPISODES},
        "policy gradient": {"gamma": 0.9, "lr": 3e-3},
    },
}
# rl-baselines3-zoo, hyperparams/ppo.yml and trpo.yml; "lin_" falls linearly to 0
ZOO: dict[str, dict[str, dict[str, Any]]] = {
    "CartPole-v1": {
        "SB3 PPO": {
            **{"n_envs": 8, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98},
            **{"n_epochs": 20, "learning_rate": "lin_0.001", "clip_range": "lin_0.2"},
        },
        "sb3-contrib TRPO": {
            **{"n_envs": 2, "n_steps": 512, "batch_size": 512, "cg_damping": 1e-3},
            **{"gae_lambda": 0.98, "gamma": 0.99, "learning_rate": 1e-3, "n_critic_updates": 20},
        },
    },
    "Acrobot-v1": {
        "SB3 PPO": {
            **{"normalize": True, "n_envs": 16, "n_steps": 256, "gae_lambda": 0.94},
            **{"gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0},
        },
        "sb3-contrib TRPO": {"normalize": True, "n_envs": 2, "n_steps": 1024},
    },
    "Pendulum-v1": {
        "SB3 PPO": {
            **{"n_envs": 4, "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10},
            **{"ent_coef": 0.0, "learning_rate": 1e-3, "clip_range": 0.2},
            **{"use_sde": True, "sde_sample_freq": 4},
        },
        "sb3-contrib TRPO": {
            **{"n_envs": 2, "n_steps": 1024, "gamma": 0.9, "n_critic_updates": 15},
            **{"use_sde": True, "sde_sample_freq": 4},
        },
    },
}


@dataclass(frozen=True)
class Cell:
    """One run."""

    environment: str
    method: str
    seed: int
    steps: int

    def key(self) -> str:
        """Names the version, all settings and the effort."""
        who = f"{self.method}@{version_of(self.method)}"
        text = json.dumps(settings_text(self), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{who}/{self.environment}/{digest}/{self.steps}/{self.seed}"


def version_of(method: str) -> str:
    """Version of a peer, or a digest of the source that fisherbo.rl trains with."""
    if method in PEERS:
        return version("stable-baselines3" if method == "SB3 PPO" else "sb3-contrib")
    folder = Path(fisherbo.__file__).parent / "rl"
    unused = ("progress.py", "agent.py", "drawing.py", "evaluation.py", "__init__.py")
    files = sorted(p for p in folder.glob("*.py") if p.name not in unused)
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]


def settings_text(cell: Cell) -> dict[str, Any]:
    """All settings of a run, in plain values."""
    if cell.method in PEERS:
        return ZOO[cell.environment][cell.method]
    changes = SETTINGS[cell.environment][cell.method]
    return described(OURS[cell.method], settings_of(OURS[cell.method], changes))


def run(cell: Cell) -> rows.Row:
    """A run: episodes (step, return), returns of the evaluation, updates and CPU seconds."""
    torch.set_num_threads(1)
    return peer(cell) if cell.method in PEERS else ours(cell)


def ours(cell: Cell) -> rows.Row:
    result = train(
        cell.environment,
        algorithm=OURS[cell.method],
        steps=cell.steps,
        seed=cell.seed,
        **SETTINGS[cell.environment][cell.method],
    )
    policies = [update.policy for update in result.updates]
    return {
        "episodes": [[e.step, e.value] for e in result.episodes],
        "evaluation": list(result.agent.evaluate(EPISODES, seed=FIRST_EPISODE)),
        "updates": [[p.accepted, p.kl, p.gain, p.trials] for p in policies],
        "max_kl": result.settings.max_kl,
        "steps": result.steps,
        "seconds": result.cpu_seconds,
    }


def peer(cell: Cell) -> rows.Row:
    """The same of Stable-Baselines3 or sb3-contrib."""
    from sb3_contrib import TRPO
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    settings = dict(ZOO[cell.environment][cell.method])
    envs: Any = make_vec_env(cell.environment, settings.pop("n_envs"), seed=cell.seed)
    if settings.pop("normalize", False):
        envs = VecNormalize(envs, gamma=settings.get("gamma", 0.99))
    for name in ("learning_rate", "clip_range"):
        if isinstance(settings.get(name), str):
            settings[name] = Falling(float(settings[name].removeprefix("lin_")))
    kind = PPO if cell.method == "SB3 PPO" else TRPO
    model = kind("MlpPolicy", envs, seed=cell.seed, device="cpu", **settings)
    log: list[tuple[int, float]] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        for info in local["infos"]:
            if "episode" in info:
                log.append((model.num_timesteps, float(info["episode"]["r"])))
        return True

    begin = time.process_time()
    model.learn(cell.steps, callback=note)
    seconds = time.process_time() - begin
    return {
        "episodes": log,
        "evaluation": evaluation(cell.environment, model, envs),
        "steps": model.num_timesteps,
        "seconds": seconds,
    }


@dataclass(frozen=True)
class Falling:
    """A schedule that falls linearly to 0."""

    first: float

    def __call__(self, remaining: float) -> float:
        """Value where this share of the run remains."""
        return self.first * remaining


def evaluation(environment: str, model: Any, envs: Any) -> list[float]:
    """Returns of the episodes that our policies are evaluated on."""
    normalise = getattr(envs, "normalize_obs", lambda seen: seen)
    found = []
    env = gymnasium.make(environment, disable_env_checker=True)
    for episode in range(EPISODES):
        seen, _ = env.reset(seed=FIRST_EPISODE + episode)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(normalise(seen), deterministic=True)
            seen, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    env.close()
    return found


# Report

Found = Mapping[Cell, rows.Row]


def of(found: Found, environment: str, method: str) -> dict[int, rows.Row]:
    """Rows of a method on an environment, by seed."""
    cells = [c for c in found if (c.environment, c.method) == (environment, method)]
    return {c.seed: found[c] for c in sorted(cells, key=lambda c: c.seed)}


def worth(row: rows.Row) -> float:
    """Mean return of the policy at the end."""
    return float(np.mean(row["evaluation"]))


def micros(row: rows.Row) -> float:
    """CPU microseconds of a step."""
    return float(1e6 * row["seconds"] / row["steps"])


def return_at(row: rows.Row, steps: float, width: float) -> float:
    """Mean return of the training episodes that ended in the ``width`` steps before ``steps``."""
    values = [value for step, value in row["episodes"] if steps - width < step <= steps]
    earlier = [value for step, value in row["episodes"] if step <= steps]
    return float(np.mean(values)) if values else (earlier[-1] if earlier else float("nan"))


def shown(values: Sequence[float], digits: int = 1) -> str:
    """Mean and its interval."""
    if len(values) == 0:
        return "-"
    mean, low, high = mean_interval(np.asarray(values, float))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def returns_table(found: Found, environment: str, steps: int) -> Table:
    target = TARGETS[environment]
    table = Table(title=f"{environment}: return after {steps:,} steps; target {target:g}")
    for name in ("method", "seeds", "policy at the end", "worst seed", "at the target"):
        table.add_column(name, justify="left" if name == "method" else "right")
    table.add_column("last tenth of training", justify="right")
    table.add_column("CPU µs a step", justify="right")
    for method in NAMES:
        runs = of(found, environment, method)
        if not runs:
            continue
        ends = [worth(row) for row in runs.values()]
        last = [return_at(row, row["steps"], 0.1 * steps) for row in runs.values()]
        reached = sum(end >= target for end in ends)
        table.add_row(
            method,
            str(len(runs)),
            shown(ends),
            f"{min(ends):.1f}",
            f"{reached} of {len(runs)}",
            shown(last),
            f"{np.mean([micros(row) for row in runs.values()]):.0f}",
        )
    return table


def curve_table(found: Found, environment: str, steps: int) -> Table:
    table = Table(title=f"{environment}: return while training (the tenth of the steps before)")
    table.add_column("method")
    for share in QUARTERS:
        table.add_column(f"{share * steps:,.0f} steps", justify="right")
    for method in NAMES:
        runs = of(found, environment, method)
        if runs:
            columns = [
                shown([return_at(row, s * steps, 0.1 * steps) for row in runs.values()])
                for s in QUARTERS
            ]
            table.add_row(method, *columns)
    return table


def paired_table(found: Found, lengths: Mapping[str, int]) -> Table:
    table = Table(title="Ours minus theirs, paired by seed; CPU of a step, ours / theirs")
    for name in ("environment", "ours", "theirs", "policy at the end", "verdict"):
        table.add_column(name)
    table.add_column("last tenth of training")
    table.add_column("verdict")
    table.add_column("CPU", justify="right")
    for environment, steps in lengths.items():
        for mine, theirs in RIVALS.items():
            a, b = of(found, environment, mine), of(found, environment, theirs)
            seeds = sorted(a.keys() & b.keys())
            if not seeds:
                continue
            width = 0.1 * steps
            ends = [worth(a[s]) - worth(b[s]) for s in seeds]
            last = [
                return_at(a[s], a[s]["steps"], width) - return_at(b[s], b[s]["steps"], width)
                for s in seeds
            ]
            ratio = shown([micros(a[s]) / micros(b[s]) for s in seeds], 2)
            parts = (shown(ends), verdict(ends), shown(last), verdict(last), ratio)
            table.add_row(environment, mine, theirs, *parts)
    return table


def verdict(differences: Sequence[float]) -> str:
    """Better, worse, or a tie where the interval holds 0."""
    _, low, high = mean_interval(np.asarray(differences, float))
    return "better" if low > 0 else "worse" if high < 0 else "tie"


def improvement_table(found: Found) -> Table:
    """Surrogate and divergence of every update; TRPO and ACKTR are to break no bound."""
    table = Table(title="Monotone improvement: every update of all seeds")
    table.add_column("environment")
    table.add_column("method")
    for name in ("updates", "accepted", "δ", "largest KL", "least gain", "mean gain"):
        table.add_column(name, justify="right")
    for name in ("KL > δ", "surrogate lowered"):
        table.add_column(name, justify="right")
    for environment in STEPS:
        for method in OURS:
            runs = of(found, environment, method)
            updates = [update for row in runs.values() for update in row["updates"]]
            taken = np.array([[kl, gain] for accepted, kl, gain, _ in updates if accepted])
            if not len(taken):
                continue
            bounded = method in ("TRPO", "ACKTR")
            radius = next(iter(runs.values()))["max_kl"]
            table.add_row(
                environment,
                method,
                str(len(updates)),
                str(len(taken)),
                f"{radius:g}" if bounded else "-",
                f"{taken[:, 0].max():.4f}",
                f"{taken[:, 1].min():.2e}",
                f"{taken[:, 1].mean():.4f}",
                str(int((taken[:, 0] > radius).sum())) if bounded else "-",
                str(int((taken[:, 1] <= 0).sum())),
            )
    return table


def settings_table(environments: Sequence[str]) -> Table:
    table = Table(title="Settings (ours: changes of fisherbo.rl's defaults; peers: of the zoo)")
    for name in ("environment", "method", "settings"):
        table.add_column(name)
    for environment in environments:
        for method, settings in {**SETTINGS[environment], **ZOO[environment]}.items():
            text = ", ".join(f"{name}={value}" for name, value in settings.items())
            table.add_row(environment, method, text)
    return table


COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#7f7f7f", "#ff9896", "#aec7e8")


def figure_of(found: Found, lengths: Mapping[str, int]) -> go.Figure:
    """Mean training return over steps, with its interval over seeds, an environment a row."""
    figure = make_subplots(rows=len(lengths), cols=1, subplot_titles=list(lengths))
    for row, (environment, steps) in enumerate(lengths.items(), 1):
        grid = np.linspace(0.05, 1, 20) * steps
        for method, colour in zip(NAMES, COLOURS, strict=True):
            runs = of(found, environment, method)
            if not runs:
                continue
            values = np.array(
                [[return_at(r, x, 0.05 * steps) for x in grid] for r in runs.values()]
            )
            triples = np.array([mean_interval(column) for column in values.T])
            line: dict[str, Any] = {"legendgroup": method, "row": row, "col": 1}
            figure.add_scatter(
                x=grid, y=triples[:, 0], name=method, showlegend=row == 1,
                line={"color": colour}, **line,
            )  # fmt: skip
            figure.add_scatter(
                x=np.concatenate([grid, grid[::-1]]),
                y=np.concatenate([triples[:, 1], triples[::-1, 2]]),
                fill="toself", fillcolor=colour, opacity=0.15, line={"width": 0},
                showlegend=False, hoverinfo="skip", **line,
            )  # fmt: skip
    figure.update_layout(height=380 * len(lengths), title="Return while training, 95 % over seeds")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line(
        "rl", __doc__, "dev workers write", quick="CartPole-v1, 2 seeds, 8,000 steps"
    )
    parser.add_argument("--environments", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--methods", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="only what is kept, no new run")
    args = parser.parse_args(argv)
    if args.quick:
        args.environments, args.seeds = ["CartPole-v1"], 2
    console = Console(width=150, record=True)
    methods = [name for name in NAMES if name in args.methods]
    if find_spec("sb3_contrib") is None:
        console.print("peers: pip install -c constraints.txt stable-baselines3 sb3-contrib")
        methods = [name for name in methods if name not in PEERS]
    warnings.simplefilter("ignore")  # of peers
    first = 100 if args.dev else 0
    seeds = range(first, first + (min(args.seeds, 2) if args.dev else args.seeds))
    steps = {name: 8_000 if args.quick else STEPS[name] for name in args.environments}
    cells = [
        Cell(environment, method, seed, steps[environment])
        for seed in seeds
        for method in methods
        for environment in args.environments
    ]
    if args.report:
        kept = rows.load(rows.RUNS / "rl.jsonl")
        found = {cell: kept[cell.key()] for cell in cells if cell.key() in kept}
    else:
        found = rows.collect("rl", cells, run, workers=args.workers)
    for environment in args.environments:
        console.print(returns_table(found, environment, steps[environment]))
        console.print(curve_table(found, environment, steps[environment]))
    console.print(paired_table(found, steps))
    console.print(improvement_table(found))
    console.print(settings_table(args.environments))
    if len(found) < len(cells):
        console.print(f"{len(found)} of {len(cells)} runs are in these tables.")
    figure_of(found, steps).write_html(rows.RUNS / "rl.html")
    if args.write:
        made_by = "python -m experiments.rl" + " --quick" * args.quick + " --write"
        rows.write(console, "rl", "Policies: ours and peers'", f"Made by `{made_by}`")


if __name__ == "__main__":
    main()
