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
from plotly.offline import get_plotlyjs
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import fisherbo
from fisherbo.visualization import plot_posterior_contour, report, save_to_dashboard
from fisherbo.visualization.dashboard import fitting

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
    assert len(found.figures) == 9  # without intermediate values
    path = tmp_path / "report.html"
    found.write_html(path)
    browser.get_log("browser")
    browser.get(path.as_uri())
    browser.execute_script(OPEN)
    for name, figure in found.figures.items():
        element = WebDriverWait(browser, SECONDS).until(
            lambda b, name=name: b.find_element(By.CSS_SELECTOR, f"#{name} .main-svg")
        )
        assert element.is_displayed(), name
        section = browser.find_element(By.ID, f"{name}-section")
        assert figure.layout.title.text in section.text, name
        assert "How to read this" in section.text, name
        assert is_drawn(browser, browser.find_element(By.ID, name)), name
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [url for url in loaded if not url.startswith(("data:", "blob:"))] == []
    assert console_errors(browser) == []


OPEN = "document.querySelectorAll('details').forEach(d => { d.open = true; })"

OVERLAPS = """
const seen = (e) => e.textContent.trim() !== "" && e.getBoundingClientRect().width > 0;
const kinds = ".g-gtitle text, .g-xtitle text, .g-ytitle text, .annotation-text, .legendtext, " +
  "[class*=xtitle], [class*=ytitle]";
const found = [];
function check(boxes, where) {
  for (let i = 0; i < boxes.length; i++) {
    for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 1) found.push([where, boxes[i][0], boxes[j][0]]);
    }
  }
}
for (const section of document.querySelectorAll("section")) {
  const blocks = section.querySelectorAll("h2, .js-plotly-plot > div, figcaption, p, table");
  check(Array.from(blocks).filter(seen).map(
    (e) => [e.tagName + " " + e.textContent.slice(0, 30), e.getBoundingClientRect()]), section.id);
  const texts = new Set(Array.from(section.querySelectorAll(kinds)).filter(
    (e) => e.tagName === "text" && seen(e)));
  check(Array.from(texts).map((e) => [e.textContent, e.getBoundingClientRect()]), section.id);
}
return found;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_no_text_of_the_page_covers_another(browser, study, tmp_path, width, theme):
    path = tmp_path / "report.html"
    report(study, value="validation loss").write_html(path)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(path.as_uri())
        browser.execute_script(OPEN)
        WebDriverWait(browser, SECONDS).until(
            lambda b: b.execute_script(
                "return document.querySelectorAll('details .main-svg').length > 4"
            )
        )
        WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script(OVERLAPS) == [])
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (theme == "light")
        text = browser.execute_script(
            "return getComputedStyle(document.querySelector('#history .xtitle')).fill"
        )
        assert text == ("rgb(28, 28, 28)" if theme == "light" else "rgb(232, 232, 232)")
        columns = browser.execute_script(
            "const layout = document.getElementById('posterior')._fullLayout;"
            "const axes = Object.keys(layout).filter(name => name.startsWith('xaxis'));"
            "return new Set(axes.map(name => layout[name].domain[0])).size"
        )
        assert columns == (1 if width <= 700 else 3)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_next_trial_of_the_page_is_the_one_that_is_asked_for(browser, study, tmp_path):
    path = tmp_path / "report.html"
    report(study).write_html(path)
    browser.get(path.as_uri())
    rows = browser.find_elements(By.CSS_SELECTOR, "#next tbody tr")
    shown = {row.text.split()[0]: row.text.split()[-1] for row in rows}
    asked = study.ask(study.trials[0].distributions)
    for name, value in asked.params.items():
        assert shown[name] == (f"{value:.6g}" if isinstance(value, float) else str(value))
    study.tell(asked, state=optuna.trial.TrialState.FAIL)


def test_trials_are_sorted_by_a_click_and_by_the_keyboard(browser, study, tmp_path):
    path = tmp_path / "report.html"
    report(study).write_html(path)
    browser.get(path.as_uri())

    def values():
        cells = browser.find_elements(By.CSS_SELECTOR, "#trials tbody td:nth-child(3)")
        return [float(cell.get_attribute("textContent")) for cell in cells if cell.text]

    head = browser.find_element(By.CSS_SELECTOR, "#trials th:nth-child(3)")
    browser.execute_script("arguments[0].click()", head)
    assert values() == sorted(values())
    assert head.get_attribute("aria-sort") == "ascending"
    head.send_keys(Keys.ENTER)
    assert values() == sorted(values(), reverse=True)


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


CROPPED = """
const box = arguments[0].getBoundingClientRect();
const inside = (e) => e.top >= box.top - 1 && e.bottom <= box.bottom + 1 &&
  e.left >= box.left - 1 && e.right <= box.right + 1;
const drawn = arguments[0].querySelectorAll(".main-svg, text, .legend");
return Array.from(drawn).filter((e) => e.getBoundingClientRect().width > 0)
  .filter((e) => !inside(e.getBoundingClientRect()))
  .map((e) => e.textContent.slice(0, 40));
"""


def test_a_figure_of_its_own_height_is_seen_to_be_cropped(browser, study, tmp_path):
    """What the dashboard does: plotly draws into a box that is 450 pixels high."""
    path, figure = tmp_path / "box.html", plot_posterior_contour(study)
    for shown, fits in ((figure, False), (fitting(figure), True)):
        div = '<div id="box" style="width: 620px; height: 450px"></div>'
        draw = f"<script>Plotly.react('box', {shown.to_json()}.data, {shown.to_json()}.layout)"
        path.write_text(f"<script>{get_plotlyjs()}</script>{div}{draw}</script>")
        browser.get(path.as_uri())
        box = WebDriverWait(browser, SECONDS).until(
            lambda b: b.find_element(By.CSS_SELECTOR, "#box .main-svg").find_element(
                By.XPATH, "ancestor::div[@id='box']"
            )
        )
        assert (browser.execute_script(CROPPED, box) == []) == fits


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
        assert browser.execute_script(CROPPED, element) == [], name
        assert browser.execute_script("return arguments[0].clientHeight", element) == 450
    errors = [line for line in console_errors(browser) if "favicon" not in line["message"]]
    assert errors == []


@pytest.fixture(scope="module")
def front():
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=fisherbo.FisherSampler(seed=0)
    )

    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return x + y, x * (1 - y)

    study.optimize(objective, n_trials=16)
    return study


def test_page_of_two_objectives_fits_a_phone(browser, front, tmp_path):
    path = tmp_path / "report.html"
    found = report(front)
    found.write_html(path)
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get_log("browser")
        browser.get(path.as_uri())
        browser.execute_script(OPEN)
        drawn = "return document.querySelectorAll('.plot .main-svg').length"
        least = 3 * len(found.figures)  # plotly has three layers a figure
        WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script(drawn) >= least)
        WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script(OVERLAPS) == [])
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        assert console_errors(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
