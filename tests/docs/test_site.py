"""The site builds without a warning; every link within it leads to what is there."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LEFT = re.compile(r"\]\([^)\s]*\.md\b")  # a link that is shown as it is written


class References(HTMLParser):
    """What a page refers to within the site."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        target = given.get("href" if tag in ("a", "link") else "src", None)
        if target and not target.startswith(("#", "data:", "http:", "https:", "mailto:")):
            self.found.append(target.partition("#")[0].partition("?")[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    home = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    made = subprocess.run(
        [*command, "-d", str(home / "trees"), str(DOCS), str(home / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return home / "html"


@pytest.mark.slow
def test_every_page_is_made_and_refers_to_what_is_there(site):
    for source in DOCS.rglob("*.md"):
        if "_build" in source.parts:
            continue
        page = site / source.relative_to(DOCS).with_suffix(".html")
        html = page.read_text()
        assert not LEFT.search(html), source
        references = References()
        references.feed(html)
        assert references.found
        for target in filter(None, references.found):
            assert (page.parent / target).exists(), (source, target)


@pytest.mark.slow
def test_private_arguments_are_not_shown(site):
    html = (site / "api" / "sampler.html").read_text()
    assert "<strong>n_startup_trials</strong>" in html
    assert "<strong>_" not in html
