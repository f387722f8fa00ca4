"""The pages in a real browser: headless Chromium draws every figure and reports no error."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import fisherbo
from fisherbo.visualization import report, save_to_dashboard

DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DRIVER is None, reason="needs Debian's chromium and chromium-driver"),
]
SECONDS = 240


@pytest.fixture(scope="module")
def browser():
    options = Options()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('study')}/study.db"


@pytest.fixture(scope="module")
def study(storage):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = fisherbo.FisherSampler(seed=0)
    study = optuna.create_study(storage=storage, study_name="mine", sampler=sampler)

    def objective(trial):
        x, lr = trial.suggest_float("x", -5, 5), trial.suggest_float("lr", 1e-4, 1, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        return (x - 1) ** 2 + abs(np.log10(lr) + 2) + (kind == "a")

    study.optimize(objective, n_trials=24)
    return study


def picture(browser, element):
    """The element's pixels, shape (height, width, 3)."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    with Image.open(io.BytesIO(element.screenshot_as_png)) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def is_drawn(browser, element):
    """Whether the plotting area holds marks of several colours, not axes and texts alone."""
    pixels = picture(browser, element)
    inner = pixels[int(0.2 * len(pixels)) : int(0.85 * len(pixels))].reshape(-1, 3)
    colourful = np.ptp(inner, axis=1) > 40
    return colourful.mean() > 1e-3


def console_errors(browser):
    return [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_an_empty_figure_is_not_taken_for_drawn(browser, tmp_path):
    import plotly.graph_objects as go

    path = tmp_path / "empty.html"
    figure = go.Figure(layout={"title": "nothing", "template": "plotly_white"})
    path.write_text(figure.to_html(div_id="empty"))
    browser.get(path.as_uri())
    element = WebDriverWait(browser, SECONDS).until(
        lambda b: b.find_element(By.CSS_SELECTOR, "#empty .main-svg")
    )
    assert element.is_displayed()
    assert not is_drawn(browser, browser.find_element(By.ID, "empty"))


def test_every_figure_of_the_report_is_drawn_offline(browser, study, tmp_path):
    found = report(study)
    assert len(found.figures) == 8
    path = tmp_path / "report.html"
    found.write_html(path)
    browser.get_log("browser")
    browser.get(path.as_uri())
    for name, figure in found.figures.items():
        element = WebDriverWait(browser, SECONDS).until(
            lambda b, name=name: b.find_element(By.CSS_SELECTOR, f"#{name} .main-svg")
        )
        assert element.is_displayed(), name
        box = browser.find_element(By.ID, name)
        assert figure.layout.title.text in box.text, name
        assert is_drawn(browser, box), name
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [url for url in loaded if not url.startswith(("data:", "blob:"))] == []
    assert console_errors(browser) == []


@pytest.fixture
def dashboard(storage, study):
    save_to_dashboard(study)
    command = Path(sys.executable).with_name("optuna-dashboard")
    port = free_port()
    server = subprocess.Popen(
        [command, storage, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def wait_for(url):
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_optuna_dashboard_shows_our_figures_and_note(browser, study, dashboard):
    browser.get_log("browser")
    browser.get(f"{dashboard}/dashboard/studies/{study._study_id}/note")
    WebDriverWait(browser, SECONDS).until(
        lambda b: "recommended" in b.find_element(By.TAG_NAME, "body").text
    )
    browser.get(f"{dashboard}/dashboard/studies/{study._study_id}")
    names = ["posterior", "contour", "acquisition", "importance", "calibration", "steps"]
    for name in names:
        element = WebDriverWait(browser, SECONDS).until(
            lambda b, name=name: b.find_element(By.ID, f"user-defined-plot:fisherbo-{name}")
        )
        WebDriverWait(browser, SECONDS).until(lambda b, e=element: is_drawn(b, e))
    errors = [line for line in console_errors(browser) if "favicon" not in line["message"]]
    assert errors == []
