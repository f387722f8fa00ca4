"""`fisherbo rl`: train a policy, or evaluate and draw a saved one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fisherbo.cli.arguments import add_format, positive_int, seed
from fisherbo.cli.output import print_json
from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from fisherbo.rl.agent import Agent

HELP = "train a policy on a Gymnasium environment, or evaluate and draw one"
DESCRIPTION = (
    "Train a policy on a Gymnasium environment, or evaluate and draw a saved one. Run again after "
    "an interruption, or with more steps, it goes on from what is saved."
)
EXAMPLES = """examples:
  fisherbo rl CartPole-v1 --algorithm trpo
      train for 50000 steps, save the policy to runs/rl/CartPole-v1-trpo-0.pt, evaluate it
  fisherbo rl Pendulum-v1 --algorithm ppo --steps 150000 --set gamma=0.9 --set lr=1e-3
      the same with other settings; run with --steps 200000 afterwards it goes on from 150000
  fisherbo rl CartPole-v1 --policy runs/rl/CartPole-v1-trpo-0.pt --render pole.gif
      evaluate a saved policy and draw an episode of it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("environment", metavar="ENVIRONMENT", help="Gymnasium id: CartPole-v1")
    parser.add_argument(
        "--algorithm", default="trpo", metavar="NAME",
        help="trpo, ppo, acktr or vanilla (default: trpo)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive_int, default=50_000, metavar="N",
        help="steps of all environments together, with those of the saved policy (default: 50000)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed (default: 0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="change a setting, such as gamma, gae_lambda, max_kl, damping, lr, n_envs, rollout",
    )  # fmt: skip
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="evaluate this policy instead of training one"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE",
        help="file of the policy (default: runs/rl/ENVIRONMENT-ALGORITHM-SEED.pt); if it is there, "
        "its training goes on, and other settings are refused; beside it, while it trains, its "
        "checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--episodes",
        type=positive_int,
        default=20,
        metavar="N",
        help="of the evaluation (default: 20)",
    )
    parser.add_argument(
        "--max-episode-steps", type=positive_int, metavar="N",
        help="steps at which an episode of the evaluation or the drawing is cut off (default: the "
        "environment's own limit; without one 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--render", type=Path, metavar="FILE", help="draw an episode to a .gif or .png file"
    )
    parser.add_argument(
        "--threads", type=positive_int, default=1, metavar="N", help="threads of torch (default: 1)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no figures")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo rl`; returns the exit code."""
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.policy is None:
        _require_drawing(arguments)
        agent, found = _train(arguments)
    else:
        agent, found = _load(arguments.policy)
        _require_drawing(arguments)
    found |= _evaluated(arguments, agent)
    if arguments.format == "json":
        print_json(found)
    elif not arguments.quiet:
        print("\n".join(_lines(found)))
    return 0


def _require_drawing(arguments: argparse.Namespace) -> None:
    """Pass if nothing is to be drawn, or it can be: before anything is trained."""
    from fisherbo.files import require_writable
    from fisherbo.rl.drawing import require_drawable, require_suffix

    if arguments.render is not None:
        require_suffix(arguments.render, "--render")
        require_writable(arguments.render, "--render")
        require_drawable(arguments.environment)


def _load(file: Path) -> tuple[Agent, dict[str, Any]]:
    from fisherbo.rl.agent import Agent

    if not file.exists():
        raise InvalidInputError(f"there is no policy {file}; train one first")
    return Agent.load(file), {"policy": str(file)}


def _train(arguments: argparse.Namespace) -> tuple[Agent, dict[str, Any]]:
    from fisherbo.files import require_writable
    from fisherbo.rl.run import train

    name = f"{arguments.environment.replace('/', '-')}-{arguments.algorithm}-{arguments.seed}.pt"
    file: Path = arguments.save or Path("runs/rl") / name
    require_writable(file, "--save")
    checkpoint = file.with_name(file.name + ".checkpoint")
    result = train(
        arguments.environment,
        algorithm=arguments.algorithm,
        steps=arguments.steps,
        seed=arguments.seed,
        checkpoint=checkpoint,
        start=file if file.exists() else None,
        progress=not arguments.quiet,
        **dict(_setting(text) for text in arguments.settings),
    )
    if result.steps >= arguments.steps + result.settings.n_envs:
        _note(f"{file} has {result.steps} steps already, nothing was trained; raise --steps")
    result.save(file)
    checkpoint.unlink(missing_ok=True)
    found = {"returns": list(result.returns), "cpu_seconds": result.cpu_seconds}
    return result.agent, {**found, "steps": result.steps, "policy": str(file)}


def _evaluated(arguments: argparse.Namespace, agent: Agent) -> dict[str, Any]:
    """Returns of episodes that the policy plays, and where one is drawn."""
    options = {
        "seed": arguments.seed,
        "environment": arguments.environment,
        "max_episode_steps": arguments.max_episode_steps,
    }
    evaluation = agent.evaluation(arguments.episodes, **options)
    if evaluation.cut_off:
        _note(f"{evaluation}; --max-episode-steps sets another limit")
    found: dict[str, Any] = {
        "evaluation": list(evaluation.returns),
        "cut_off": evaluation.cut_off,
    }
    if arguments.render is not None:
        found["drawing"] = str(agent.render(arguments.render, **options))
    return found


def _note(words: str) -> None:
    """Say on standard error what a user should know."""
    print(f"fisherbo: note: {words}", file=sys.stderr)


def _lines(found: dict[str, Any]) -> list[str]:
    """What was found, for people."""
    lines = []
    if "returns" in found:
        last = found["returns"][-20:]
        mean = f"{sum(last) / len(last):.1f}" if last else "-"
        lines.append(
            f"{len(found['returns'])} episodes, mean return of the last {len(last)}: {mean}; "
            f"{found['cpu_seconds']:.0f} CPU seconds"
        )
    trained = f", trained for {found['steps']} steps" if "steps" in found else ""
    lines.append(f"policy: {found['policy']}{trained}")
    returns = found["evaluation"]
    lines.append(
        f"evaluation: mean return {sum(returns) / len(returns):.1f} of {len(returns)} episodes, "
        f"from {min(returns):.1f} to {max(returns):.1f}"
    )
    return [*lines, *([f"drawing: {found['drawing']}"] if "drawing" in found else [])]


def _setting(text: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE: a number, true, false, none, widths, or a word."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InvalidInputError(f"--set needs NAME=VALUE, got {text!r}; for example gamma=0.9")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name, words[value.lower()]
    if name == "hidden":
        return name, tuple(_number(word) for word in value.split(","))
    return name, _number(value)


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
