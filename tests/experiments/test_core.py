"""The natural-gradient core is written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import core


def test_nothing_outside_geometry_does_the_work_of_the_core() -> None:
    assert core.second_implementations() == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import numpy as np\nstep = np.linalg.solve(metric, gradient)", "factorises or solves"),
        ("from scipy.linalg import cho_factor\ncho_factor(metric)", "factorises or solves"),
        ("import torch\nL = torch.linalg.cholesky(gram)", "factorises or solves"),
        ("F = metric.inverse()", "factorises or solves"),
        ("if gain / predicted > 0.75:\n    damping *= 0.5", "judges a step by its ratio"),
        ("scale = math.sqrt(2 * max_kl / slope)", "measures a KL ball"),
        ("scale = (kl_clip / length) ** 0.5", "measures a KL ball"),
    ],
)
def test_a_planted_second_implementation_is_found(tmp_path: Path, code: str, what: str) -> None:
    (tmp_path / "geometry").mkdir()
    (tmp_path / "geometry" / "linalg.py").write_text(code)
    assert core.second_implementations(tmp_path) == []
    (tmp_path / "planted.py").write_text(code)
    (finding,) = core.second_implementations(tmp_path)
    assert finding.what == what
    assert finding.place.startswith("planted.py:")


def test_calls_of_the_core_are_no_finding(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text(
        "from fisherbo.geometry import lapack\n"
        "from fisherbo.geometry.linalg import cholesky\n"
        "L = cholesky(lapack.cholesky(gram))\n"
    )
    assert core.second_implementations(tmp_path) == []


def test_every_customer_calls_the_core() -> None:
    found = core.customers()
    for module, name in {
        "optimize.descent": "trust_region.by_agreement",
        "botorch.region": "trust_region.by_agreement",
        "gp.fit": "trust_region.by_agreement",
        "training.adaptation": "trust_region.by_agreement",
        "training.blocks": "metric.EigenMetric",
        "training.second_moments": "trust_region.kl_share",
        "training.update": "trust_region.kl_share",
        "training.natural": "metric.MatrixFreeMetric",
        "rl.trpo": "trust_region.kl_step_length",
    }.items():
        assert name in found[module], (module, found[module])
