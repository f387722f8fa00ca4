import optuna
import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def line():
    """Tensors of a noiseless linear regression, 32 rows, 3 features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


@pytest.fixture
def build():
    return lambda: nn.Linear(3, 1)


@pytest.fixture
def quick(line, build):
    """Arguments of a study whose trials take milliseconds."""
    return {
        "build_model": build,
        "data": line,
        "loss": "squared_error",
        "optimizer": "adam",
        "sampler": "random",
        "max_steps": 10,
    }
