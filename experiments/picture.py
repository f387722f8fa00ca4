"""A picture of the geometry: a posterior, its Fisher metric, and two ways up the acquisition.

    python -m experiments.picture               experiments/results/picture.svg

FisherSampler minimises the Branin function (22 trials, seed 0); the figure is that of
`fisherbo.visualization.plot_posterior_contour`. Needs Debian's chromium and chromium-driver, which
turn plotly's figure into SVG, and selenium.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import optuna

import fisherbo
from experiments.options import command_line
from fisherbo.visualization import plot_posterior_contour

RESULT = Path(__file__).parent / "results" / "picture.svg"
WIDTH, HEIGHT = 900, 560


def branin(trial: optuna.Trial) -> float:
    """Three minima of 0.398, at (−π, 12.275), (π, 2.275) and (3π, 2.475)."""
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    bow = y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6
    return bow**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium with a window of the right size for a page of figures."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    driver = shutil.which("chromedriver")
    if driver is None:
        raise SystemExit("needs chromedriver; install it with: apt-get install chromium-driver")
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_script_timeout(60)
        yield browser
    finally:
        browser.quit()


def drawn(browser: Any, figure: Any, **how: Any) -> bytes:
    """The figure as a file, by plotly's own drawing.

    Args:
        browser: That of `chromium`.
        figure: One of plotly.
        **how: Arguments of ``Plotly.toImage``: ``format``, ``width``, ``height``, ``scale``.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figure.html"
        page.write_text(figure.to_html(div_id="figure"))
        browser.get(page.as_uri())
        url = browser.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"Plotly.toImage(document.getElementById('figure'), {json.dumps(how)}).then(done);"
        )
    head, _, body = str(url).partition(",")
    return base64.b64decode(body) if "base64" in head else unquote(body).encode()


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("picture", __doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
    study.optimize(branin, n_trials=22)
    figure = plot_posterior_contour(study, params=("x", "y"), value="Branin")
    figure.update_layout(width=WIDTH, height=HEIGHT)
    with chromium() as browser:
        args.output.write_bytes(drawn(browser, figure, format="svg", width=WIDTH, height=HEIGHT))
    print(f"{args.output}: best {study.best_value:.4f} in {len(study.trials)} trials")


if __name__ == "__main__":
    main()
