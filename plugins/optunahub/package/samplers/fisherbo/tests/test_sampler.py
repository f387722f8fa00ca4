"""The registry's check: the package loads and passes Optuna's own tests of relative samplers."""

from collections.abc import Callable

import optuna
import optunahub
import pytest
from optuna.testing.pytest_samplers import RelativeSamplerTestCase

module = optunahub.load_local_module("samplers/fisherbo", registry_root="package")


class TestFisherSampler(RelativeSamplerTestCase):
    """The model proposes from the second trial on."""

    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        """Makes the sampler under test."""
        return lambda: module.FisherSampler(seed=0, n_startup_trials=1)
