"""`fisherbo rl`: train a policy, or evaluate and draw a saved one."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fisherbo.cli.arguments import add_format, positive_int, seed
from fisherbo.cli.output import print_json
from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    from fisherbo.rl.agent import Agent
    from fisherbo.rl.run import TrainingResult

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
  fisherbo rl CartPole-v1 --report pole.html --csv pole.csv
      the same with the learning curve on a page and as a table
  fisherbo rl --settings
      all settings of --set
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
        help="change a setting, such as gamma, max_kl, lr or n_envs; --settings lists all",
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
        "--report", type=Path, metavar="FILE",
        help="HTML page: the learning curve, the evaluation and the settings",
    )  # fmt: skip
    parser.add_argument(
        "--csv", type=Path, metavar="FILE",
        help="table of the training episodes: step, return, length and moving mean",
    )  # fmt: skip
    parser.add_argument(
        "--settings", action=_ShowSettings, nargs=0, dest="shown",
        help="list all settings of --set with their defaults and the algorithms that use them",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=positive_int, default=1, metavar="N", help="threads of torch (default: 1)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no figures")
    add_format(parser)


class _ShowSettings(argparse.Action):
    """Print the settings and leave, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from fisherbo.rl.settings import defaults_table

        for name, default, meaning in defaults_table():
            text = textwrap.fill(meaning, 76, initial_indent="    ", subsequent_indent="    ")
            print(f"{name} = {default}\n{text}")
        parser.exit()


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo rl`; returns the exit code."""
    import torch

    torch.set_num_threads(arguments.threads)
    result = None
    if arguments.policy is None:
        _require_drawing(arguments)
        _require_files(arguments)
        result = _train(arguments)
        agent, found = result.agent, _found(arguments, result)
    else:
        _refuse_curves(arguments)
        agent, found = _load(arguments.policy)
        _require_drawing(arguments)
    found |= _evaluated(arguments, agent)
    if result is not None:
        found |= _written(arguments, result, found)
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


def _require_files(arguments: argparse.Namespace) -> None:
    """Pass if the page and the table can be written: before anything is trained."""
    from fisherbo.files import require_writable

    if arguments.report is not None:
        from fisherbo.visualization.style import graph_objects

        graph_objects()
        require_writable(arguments.report, "--report")
    if arguments.csv is not None:
        require_writable(arguments.csv, "--csv")


def _refuse_curves(arguments: argparse.Namespace) -> None:
    for option in ("report", "csv"):
        if getattr(arguments, option) is not None:
            raise InvalidInputError(
                f"--{option} is of a training run, got --policy; leave out --policy, and the run "
                "goes on from what --save names"
            )


def _file(arguments: argparse.Namespace) -> Path:
    """Of the policy."""
    name = f"{arguments.environment.replace('/', '-')}-{arguments.algorithm}-{arguments.seed}.pt"
    return arguments.save or Path("runs/rl") / name


def _train(arguments: argparse.Namespace) -> TrainingResult:
    from fisherbo.files import require_writable
    from fisherbo.rl.run import train

    file = _file(arguments)
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
    return result


def _found(arguments: argparse.Namespace, result: TrainingResult) -> dict[str, Any]:
    """What training reached."""
    from fisherbo.rl.learning_curve import reward_threshold, solved_at

    threshold = reward_threshold(arguments.environment)
    return {
        "returns": list(result.returns),
        "cpu_seconds": result.cpu_seconds,
        "steps": result.steps,
        "threshold": threshold,
        "solved_at": solved_at(result.episodes, threshold),
        "policy": str(_file(arguments)),
    }


def _written(
    arguments: argparse.Namespace, result: TrainingResult, found: dict[str, Any]
) -> dict[str, Any]:
    """The page and the table, where they are asked for."""
    files: dict[str, Any] = {}
    if arguments.csv is not None:
        from fisherbo.rl.learning_curve import write_csv

        write_csv(result.episodes, arguments.csv)
        files["csv"] = str(arguments.csv)
    if arguments.report is not None:
        from fisherbo.rl.settings import described, used_by
        from fisherbo.visualization.page import write
        from fisherbo.visualization.policy import policy_page

        settings = described(arguments.algorithm, result.settings)
        used = {n: v for n, v in settings.items() if arguments.algorithm in used_by(n)}
        page = policy_page(
            arguments.environment,
            result.episodes,
            found["evaluation"],
            {"steps": result.steps, **used},
            threshold=found["threshold"],
            solved_at=found["solved_at"],
        )
        write(page, arguments.report)
        files["report"] = str(arguments.report)
    return files


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
    from fisherbo.rl.learning_curve import WINDOW, solved, spread

    lines = []
    if "returns" in found:
        last = found["returns"][-WINDOW:]
        end = f"; at the end {spread(last)}, while exploring" if last else ""
        lines.append(
            f"training: {len(found['returns'])} episodes in {found['cpu_seconds']:.0f} CPU "
            f"seconds{end}"
        )
    if found.get("threshold") is not None:
        lines.append(f"solved: {solved(found['threshold'], found['solved_at'])}")
    trained = f", trained for {found['steps']} steps" if "steps" in found else ""
    lines.append(f"policy: {found['policy']}{trained}")
    lines.append(f"evaluation: {spread(found['evaluation'])}, by its most likely actions")
    files = [("drawing", "drawing"), ("report", "report"), ("csv", "episodes")]
    return [*lines, *(f"{told}: {found[name]}" for name, told in files if name in found)]


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
