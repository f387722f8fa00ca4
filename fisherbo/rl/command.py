"""`fisherbo rl`: train a policy, or evaluate and draw a saved one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from fisherbo.rl.agent import Agent

EXAMPLES = """examples:
  fisherbo rl CartPole-v1 --algorithm trpo
      train for 50000 steps, save the policy to runs/rl/CartPole-v1-trpo-0.pt, evaluate it
  fisherbo rl Pendulum-v1 --algorithm ppo --steps 150000 --set gamma=0.9 --set lr=1e-3
      the same with other settings; run again after an interruption it goes on
  fisherbo rl CartPole-v1 --policy runs/rl/CartPole-v1-trpo-0.pt --render pole.gif
      evaluate a saved policy and draw an episode of it
"""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `fisherbo`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rl",
        help="train a policy on a Gymnasium environment, or evaluate and draw one",
        description="Train a policy on a Gymnasium environment, or evaluate and draw a saved one; "
        "run it again to resume.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("environment", metavar="ENVIRONMENT", help="Gymnasium id: CartPole-v1")
    parser.add_argument(
        "--algorithm", default="trpo", metavar="NAME",
        help="trpo, ppo, acktr or vanilla (default: trpo)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=50_000, metavar="N",
        help="steps of all environments together (default: 50000)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="change a setting, such as gamma, gae_lambda, max_kl, damping, lr, n_envs, rollout",
    )  # fmt: skip
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="evaluate this policy instead of training one"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE",
        help="file of the policy (default: runs/rl/ENVIRONMENT-ALGORITHM-SEED.pt); "
        "beside it, while it trains, its checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--episodes", type=int, default=20, metavar="N", help="of the evaluation (default: 20)"
    )
    parser.add_argument(
        "--render", type=Path, metavar="FILE", help="draw an episode to a .gif or .png file"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of torch (default: 1)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no figures")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo rl`; returns the exit code."""
    if arguments.threads < 1:
        raise InvalidInputError(f"--threads must be >= 1, got {arguments.threads}; 1 is usual")
    if arguments.render is not None and arguments.render.suffix.lower() not in (".gif", ".png"):
        raise InvalidInputError(f"--render must end in .gif or .png, got {arguments.render}")

    import torch

    from fisherbo.rl.agent import Agent

    torch.set_num_threads(arguments.threads)
    if arguments.policy is None:
        agent = _train(arguments)
    elif arguments.policy.exists():
        agent = Agent.load(arguments.policy)
    else:
        raise InvalidInputError(f"there is no policy {arguments.policy}; train one first")
    _report(arguments, agent)
    return 0


def _train(arguments: argparse.Namespace) -> Agent:
    from fisherbo.rl.run import train

    name = f"{arguments.environment.replace('/', '-')}-{arguments.algorithm}-{arguments.seed}.pt"
    file: Path = arguments.save or Path("runs/rl") / name
    checkpoint = file.with_name(file.name + ".checkpoint")
    result = train(
        arguments.environment,
        algorithm=arguments.algorithm,
        steps=arguments.steps,
        seed=arguments.seed,
        checkpoint=checkpoint,
        progress=not arguments.quiet,
        **dict(_setting(text) for text in arguments.settings),
    )
    result.agent.save(file)
    checkpoint.unlink(missing_ok=True)
    if not arguments.quiet:
        last = result.returns[-20:]
        mean = f"{sum(last) / len(last):.1f}" if last else "-"
        print(
            f"{len(result.returns)} episodes, mean return of the last {len(last)}: {mean}; "
            f"{result.cpu_seconds:.0f} CPU seconds"
        )
        print(f"policy: {file}")
    return result.agent


def _report(arguments: argparse.Namespace, agent: Agent) -> None:
    returns = agent.evaluate(
        arguments.episodes, seed=arguments.seed, environment=arguments.environment
    )
    if not arguments.quiet:
        mean = sum(returns) / len(returns)
        print(
            f"evaluation: mean return {mean:.1f} of {len(returns)} episodes, "
            f"from {min(returns):.1f} to {max(returns):.1f}"
        )
    if arguments.render is not None:
        path = agent.render(
            arguments.render, seed=arguments.seed, environment=arguments.environment
        )
        if not arguments.quiet:
            print(f"drawing: {path}")


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
