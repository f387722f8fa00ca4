import io
import re

import pytest
from rich.console import Console

from fisherbo.errors import StorageError
from fisherbo.tuning import tune_training
from fisherbo.tuning.report import figures, lines, print_table, write_html


@pytest.fixture(scope="module")
def results():
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 3, generator=generator)
    data = (x, x @ torch.tensor([[1.0], [-2.0], [0.5]]))
    common = {"loss": "squared_error", "sampler": "random", "n_trials": 6, "target": 0.5}
    kfac = tune_training(lambda: nn.Linear(3, 1), data, optimizer="kfac", max_steps=40, **common)
    sgd = tune_training(
        lambda: nn.Linear(3, 1), data, optimizer="sgd", max_steps=2, **common, study_name="a<b"
    )
    return [kfac, sgd]


def test_table_holds_the_numbers_of_the_trials(results):
    table = {name: cells for name, *cells in lines(results)}
    kfac = results[0]
    best = kfac.study.best_trial
    assert table[""] == ["kfac", "sgd"]
    assert table["steps to training loss 0.5"][0] == str(best.user_attrs["steps_to_target"])
    seconds = best.user_attrs["cpu_seconds_to_target"]
    assert table["CPU seconds to training loss 0.5"][0] == f"{seconds:.1f}"
    shown = dict(line.split(" ", 1) for line in table["best parameters"][0].splitlines())
    assert shown["likelihood"] == "normal"
    for name, value in best.params.items():
        assert shown[name] == f"{value:.4g}"
    reached = [t for t in kfac.study.trials if t.user_attrs["steps_to_target"] is not None]
    assert table["trials that reach the target"] == [f"{len(reached)} of 6", "0 of 6"]
    counts = kfac.counts
    assert table["trials complete / pruned / failed"][0] == (
        f"{counts.complete} / {counts.pruned} / {counts.failed}"
    )
    assert table["steps / those of kfac"][0] == "1.0"


def test_target_that_was_not_reached_is_a_bound(results):
    table = {name: cells for name, *cells in lines(results)}
    loss = results[1].study.best_trial.user_attrs["best_loss"]
    assert table["steps to training loss 0.5"][1] == f"> 2 steps (best training loss {loss:.3g})"
    assert table["CPU seconds to training loss 0.5"][1].startswith("> ")
    ratio = 2 / results[0].steps_to_target
    assert table["steps / those of kfac"][1] == f"> {ratio:.1f}"


def test_printed_table_fits_80_columns(results):
    console = Console(width=80, record=True, file=io.StringIO())
    print_table(results, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_page_holds_every_figure_and_needs_no_network(results, tmp_path):
    path = tmp_path / "new" / "report.html"
    write_html(results, path)
    page = path.read_text()
    titles = [figure.layout.title.text for figure in figures(results).values()]
    assert len(titles) == 8
    for title in titles:
        assert title in page
    assert page.count("* plotly.js v") == 1
    assert page.count("<script") <= 2 * len(titles) + 2
    assert not re.search(r"<(script|link|img)[^>]*\b(src|href)\s*=", page.split("plotly.js")[0])
    assert not re.search(r'<script[^>]+src="', page)
    assert "a&lt;b" in page
    assert "torch 2" in page
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_page_that_cannot_be_written(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another place with --report"):
        write_html(results, tmp_path / "file" / "report.html")
