import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import polars
import pytest
import torch

import fisherbo
from fisherbo.errors import InvalidInputError
from fisherbo.training import mlp
from fisherbo.tuning.table import Table
from fisherbo.tuning.tables.model import TableModel, load_model
from fisherbo.tuning.tables.supervised import Choices, fit, prepare

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": np.where(RNG.random(80) < 0.1, np.nan, RNG.normal(size=80)),
        "colour": RNG.choice(["red", "green", "blue"], 80),
        "day": pd.date_range("2024-01-01", periods=80).strftime("%d.%m.%Y"),
    }
)


def made(target):
    problem = prepare(Table("made", FRAME, pd.Series(target, name="y"), "m"), None, Choices(), 0)
    found = fit(problem, problem.split.fitted)
    network = mlp(found.x.shape[1], (4,), problem.outputs, seed=1)
    return TableModel(
        "made", "y", problem.classes, found.encoder, network, (4,), found.centre, found.scale,
        {"accuracy": (0.9, 0.8, 1.0)},
    )  # fmt: skip


@pytest.fixture
def classifier():
    return made(RNG.choice(["no", "yes"], 80))


@pytest.fixture
def regressor():
    return made(RNG.normal(1000, 50, 80))


def test_a_model_is_the_same_from_its_file(classifier, regressor, tmp_path):
    for model in (classifier, regressor):
        model.save(tmp_path / "model.pt")
        again = fisherbo.load_model(tmp_path / "model.pt")
        assert again.predict(FRAME).tolist() == model.predict(FRAME).tolist()
        assert (again.columns, again.classes) == (model.columns, model.classes)
        assert again.scores == model.scores


def test_probabilities_and_labels_agree(classifier):
    p = classifier.predict_proba(FRAME)
    np.testing.assert_allclose(p.sum(1), 1)
    labels = np.array(classifier.classes)[p.argmax(1)]
    assert classifier.predict(FRAME).tolist() == labels.tolist()


def test_numbers_are_in_the_targets_units(regressor):
    x = torch.from_numpy(regressor.encoder.transform(FRAME))
    output = regressor.network(x)[:, 0].detach().numpy()
    expected = output * regressor.scale + regressor.centre
    np.testing.assert_allclose(regressor.predict(FRAME), expected, rtol=1e-6)
    with pytest.raises(InvalidInputError, match="probabilities are for classes"):
        regressor.predict_proba(FRAME)


def test_frames_of_any_kind_in_any_order(classifier):
    expected = classifier.predict(FRAME).tolist()
    shuffled = FRAME[["day", "colour", "x"]].assign(more="ignored")
    for rows in (shuffled, polars.from_pandas(FRAME), {k: FRAME[k] for k in FRAME}):
        assert classifier.predict(rows).tolist() == expected
    with pytest.raises(InvalidInputError, match=r"must be a data frame .*, got list"):
        classifier.predict([[1, 2]])
    with pytest.raises(InvalidInputError, match="the rows lack x, day"):
        classifier.predict(FRAME[["colour"]])


def test_the_file_holds_no_code(classifier, tmp_path):
    path = tmp_path / "model.pt"
    classifier.save(path)
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        listing = archive.read(name)
    assert _globals(listing) <= {
        "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage",
    }  # fmt: skip


def _globals(data):
    import pickletools

    return {argument for op, argument, _ in pickletools.genops(data) if op.name == "GLOBAL"}


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


def test_a_harmful_file_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save({"kind": "table model", "version": 1, "more": Harmful()}, tmp_path / "b.pt")
    torch.save({"kind": "policy", "version": 1}, tmp_path / "c.pt")
    (tmp_path / "d.pt").write_text("words")
    torch.save({"kind": "table model", "version": 1, "encoder": []}, tmp_path / "f.pt")
    for name in "abcdf":
        with pytest.raises(InvalidInputError, match="fisherbo tune"):
            load_model(tmp_path / f"{name}.pt")
    with pytest.raises(InvalidInputError, match="no such file"):
        load_model(tmp_path / "e.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.slow
def test_predictions_are_the_same_in_a_fresh_process(classifier, tmp_path):
    classifier.save(tmp_path / "model.pt")
    FRAME.to_csv(tmp_path / "rows.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-m", "fisherbo", "predict", "model.pt", "--data", "rows.csv", "--proba"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split(",") for line in done.stdout.splitlines()]
    assert lines[0] == ["y", "p(no)", "p(yes)"]
    assert [line[0] for line in lines[1:]] == classifier.predict(FRAME).tolist()
    p = np.array([line[1:] for line in lines[1:]], dtype=float)
    np.testing.assert_allclose(p, classifier.predict_proba(FRAME), rtol=1e-9)
