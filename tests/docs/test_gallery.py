"""The gallery shows every figure, each by a small picture that its command draws."""

import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import gallery
from experiments.picture import chromium, drawn
from fisherbo import visualization

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = re.findall(
    r"^`(plot_\w+)`: .*?^!\[(.+?)\]\((\S+)\)$",
    (DOCS / "gallery.md").read_text(),
    re.DOTALL | re.MULTILINE,
)
LARGEST = 64_000  # bytes


def test_every_figure_of_the_package_has_a_picture():
    figures = {name for name, _ in inspect.getmembers(visualization, inspect.isfunction)}
    plots = {name for name in figures if name.startswith("plot_")}
    assert set(gallery.FIGURES) == plots
    assert sorted(name for name, _, _ in SHOWN) == sorted(plots)


@pytest.mark.parametrize(("name", "text", "path"), SHOWN, ids=[name for name, _, _ in SHOWN])
def test_a_picture_is_small_wide_and_told_in_words(name, text, path):
    file = DOCS / path
    assert file == gallery.path_of(name)
    assert file.stat().st_size < LARGEST
    assert len(text) > 30
    with Image.open(file) as picture:
        assert picture.width == gallery.WIDTH * gallery.SCALE
        assert len(picture.getcolors(1 << 16)) > 8  # not an empty frame


def share_of_colour(picture):
    """Share of the pixels that are not white, grey or black."""
    return float((np.ptp(np.asarray(picture.convert("RGB"), dtype=int), axis=2) > 40).mean())


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="needs Debian's chromium and chromium-driver"
)
def test_the_pictures_are_those_of_the_command(tmp_path):
    figure = gallery.FIGURES["plot_posterior_contour"]()
    size = {"width": gallery.WIDTH, "height": figure.layout.height, "scale": gallery.SCALE}
    with chromium() as browser:
        image = drawn(browser, figure, format="png", **size)
    (tmp_path / "now.png").write_bytes(image)
    with (
        Image.open(tmp_path / "now.png") as now,
        Image.open(gallery.path_of("plot_posterior_contour")) as kept,
    ):
        assert now.size == kept.size
        assert share_of_colour(now) == pytest.approx(share_of_colour(kept), abs=0.1)
