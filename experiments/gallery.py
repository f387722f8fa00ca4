"""The pictures of the gallery: every figure of `fisherbo.visualization`, drawn from real studies.

    python -m experiments.gallery                   docs/_static/gallery, OptunaHub's pictures
    python -m experiments.gallery --only plot_kl_steps
    python -m experiments.gallery --only optunahub

The studies: a support vector machine on scikit-learn's breast-cancer data (30 trials, accuracy in
three folds), and a perceptron on its digits (20 trials, pruned by `FisherPruner`). Needs Debian's
chromium and chromium-driver, selenium and Pillow. A minute.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import fisherbo
from experiments import regret
from experiments.options import command_line
from experiments.picture import chromium, drawn
from fisherbo import visualization
from fisherbo.training import TracePoint
from fisherbo.tuning import record
from fisherbo.tuning.result import TuningResult

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "_static" / "gallery"
HUB = ROOT / "plugins" / "optunahub" / "package" / "samplers" / "fisherbo" / "images"
HUB_WIDTHS = {"regret.png": regret.WIDTH, "thumbnail.png": 440}
"""OptunaHub's pictures; the thumbnail, shown in its list of packages, is the left chart alone."""
HUB_PICTURES = "optunahub"
WIDTH, SCALE = 720, 1.5
COLOURS = 96  # of a picture, so that its file is small
FOLDS = 3
VALUE = "accuracy"


@cache
def machine() -> optuna.Study:
    """A study of a support vector machine: two parameters on logarithmic scales."""
    x, y = load_breast_cancer(return_X_y=True)

    def objective(trial: optuna.Trial) -> float:
        c = trial.suggest_float("C", 1e-3, 1e4, log=True)
        gamma = trial.suggest_float("gamma", 1e-6, 1e1, log=True)
        model = make_pipeline(StandardScaler(), SVC(C=c, gamma=gamma))
        return float(cross_val_score(model, x, y, cv=FOLDS).mean())

    study = optuna.create_study(
        study_name="svm", direction="maximize", sampler=fisherbo.FisherSampler(seed=0)
    )
    watch = fisherbo.StopWhenConverged(regret=1e-4, min_trials=30)
    study.optimize(objective, n_trials=30, callbacks=[watch])
    return study


@cache
def network() -> TuningResult:
    """A study of K-FAC's learning rate, damping and momentum for a perceptron on digits."""
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)

    def build() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)
        )

    return fisherbo.tune_training(
        build,
        (x[:1200], y[:1200]),
        loss="cross_entropy",
        validation=(x[1200:], y[1200:]),
        n_trials=20,
        max_steps=60,
        batch_size=256,
        pruner=fisherbo.FisherPruner(n_startup_trials=6, n_warmup_steps=8),
    )


def traces() -> dict[str, Sequence[TracePoint]]:
    """The runs of the first and of the best trial of `network`."""
    study = network().study
    trials = {"first trial": study.trials[0], "best trial": study.best_trial}
    runs = {name: record.read(trial) for name, trial in trials.items()}
    return {name: run.trace for name, run in runs.items() if run}


FIGURES: dict[str, Callable[[], Any]] = {
    "plot_optimization_history": lambda: visualization.plot_optimization_history(
        machine(), target_name=VALUE
    ),
    "plot_regret_bound": lambda: visualization.plot_regret_bound(machine(), target=0.005),
    "plot_posterior_slice": lambda: visualization.plot_posterior_slice(machine(), value=VALUE),
    "plot_acquisition_slice": lambda: visualization.plot_acquisition_slice(machine()),
    "plot_posterior_contour": lambda: visualization.plot_posterior_contour(machine(), value=VALUE),
    "plot_calibration": lambda: visualization.plot_calibration(machine()),
    "plot_param_importances": lambda: visualization.plot_param_importances(network().study),
    "plot_kl_steps": lambda: visualization.plot_kl_steps(machine()),
    "plot_parallel_coordinate": lambda: visualization.plot_parallel_coordinate(
        network().study, target_name="validation loss", title="Trials of K-FAC's settings"
    ),
    "plot_response_map": lambda: visualization.plot_response_map(
        machine(), ("C", "gamma"), value=VALUE
    ),
    "plot_learning_curves": lambda: visualization.plot_learning_curves(network().study),
    "plot_training_trace": lambda: visualization.plot_training_trace(
        traces(), metric="validation loss"
    ),
    "plot_training_monitor": lambda: visualization.plot_training_monitor(
        network().study.best_trial, metric="validation loss"
    ),
}
"""The figures by the names of their functions, in the order of the page."""


def path_of(name: str) -> Path:
    """The file of a figure's picture."""
    return GALLERY / f"{name.removeprefix('plot_')}.png"


def write(path: Path, image: bytes) -> None:
    """Write a picture with few colours, which makes it small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(image)) as opened:
        opened.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def screenshot(browser: Any, picture: Path, width: int, height: int) -> bytes:
    """The upper left part of an SVG, on white ground, with twice as many pixels each way."""
    browser.set_window_size(2 * regret.WIDTH, 2 * regret.HEIGHT)  # nothing outside of it is drawn
    style = f"<style>body {{ margin: 0 }} svg {{ width: {regret.WIDTH}px }}</style>"
    browser.get(f"data:text/html;charset=utf-8,{quote(style + picture.read_text())}")
    size = {"x": 0, "y": 0, "width": width, "height": height, "scale": 2}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": size})
    return base64.b64decode(shot["data"])


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("gallery", __doc__)
    parser.add_argument(
        "--only", nargs="+", choices=[*FIGURES, HUB_PICTURES], help="figures; default: all"
    )
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with chromium() as browser:
        for name in [name for name in args.only or FIGURES if name in FIGURES]:
            figure = FIGURES[name]()
            size = {"width": WIDTH, "height": figure.layout.height, "scale": SCALE}
            write(path_of(name), drawn(browser, figure, format="png", **size))
        if HUB_PICTURES in (args.only or [HUB_PICTURES]):
            for name, width in HUB_WIDTHS.items():
                write(HUB / name, screenshot(browser, regret.RESULT, width, regret.HEIGHT))


if __name__ == "__main__":
    main()
