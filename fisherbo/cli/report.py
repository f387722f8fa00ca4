"""`fisherbo report`: a study's summary, and one page of figures that works offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from fisherbo.cli.arguments import add_format, seed
from fisherbo.cli.output import print_json
from fisherbo.cli.studies import add_study, load, quiet

HELP = "write a page of figures of any Optuna study"
DESCRIPTION = (
    "Write one self-contained HTML page of a study of any sampler: its history, fisherbo's model "
    "of it, where that would look next, and how far it can be trusted."
)
EXAMPLES = """examples:
  fisherbo report mine --storage sqlite:///mine.db --output mine.html
      a page that works offline; the summary goes to standard output
  fisherbo report mine --storage postgresql://user:password@host/database -f json
      the summary as JSON: trials, best, recommended
  fisherbo report mine --storage sqlite:///mine.db --dashboard
      also stores figures and a note where optuna-dashboard shows them
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_study(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: STUDY.html)"
    )
    parser.add_argument(
        "--value",
        metavar="NAME",
        help="what the value is called (default: as fisherbo tune calls it, or objective value)",
    )
    parser.add_argument(
        "--dashboard", action="store_true", help="store figures and note for optuna-dashboard too"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed (default: 0)")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo report`."""
    from fisherbo.files import require_writable
    from fisherbo.sampler.sampler import FisherSampler
    from fisherbo.tuning.notation import notation_of, value_of
    from fisherbo.tuning.storage import answering, storage_name
    from fisherbo.visualization import report, save_to_dashboard

    quiet()
    sampler = FisherSampler(seed=arguments.seed)
    study = load(arguments.storage, arguments.study, sampler)
    path = arguments.output or Path(f"{arguments.study.replace('/', '-')}.html")
    require_writable(path, "--output")
    make = save_to_dashboard if arguments.dashboard else report
    with answering(storage_name(arguments.storage)):
        notation = notation_of(study)
        value = arguments.value or value_of(study)
        found = make(study, sampler, value=value, notation=notation)
    found.write_html(path)
    if arguments.format == "json":
        print_json({**found.summary, "report": str(path), "left_out": dict(found.left_out)})
    else:
        print(f"{found.to_text()}\nreport: {path}")
    return 0
