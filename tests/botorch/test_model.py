"""Our posterior as a BoTorch model: acquisitions of every family run on it."""

import numpy as np
import pytest
import torch
from botorch import acquisition as acquisitions
from botorch.acquisition.joint_entropy_search import qJointEntropySearch
from botorch.acquisition.max_value_entropy_search import qMaxValueEntropy
from botorch.acquisition.predictive_entropy_search import qPredictiveEntropySearch

from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.botorch import from_botorch, optimize_acqf, to_botorch
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition

BOUNDS = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)


def posterior():
    x = np.random.default_rng(0).random((14, 2))
    y = np.sin(6 * x).sum(1)
    hyper = Hyper(np.array([0.4, 0.6]), 1.3, 1e-3)
    return condition(x, (y - y.mean()) / y.std(), np.zeros(2, dtype=np.int64), hyper)


def optima(model):
    return torch.rand(8, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))


MAKERS = {
    "LogEI": lambda m: acquisitions.LogExpectedImprovement(m, 1.0),
    "LogPI": lambda m: acquisitions.analytic.LogProbabilityOfImprovement(m, 2.0),
    "UCB": lambda m: acquisitions.UpperConfidenceBound(m, 2.0),
    "mean": acquisitions.PosteriorMean,
    "sd": lambda m: acquisitions.PosteriorStandardDeviation(m),
    "qLogEI": lambda m: acquisitions.qLogExpectedImprovement(m, 1.0),
    "qLogNEI": lambda m: acquisitions.qLogNoisyExpectedImprovement(m, m.train_inputs[0]),
    "qPI": lambda m: acquisitions.qProbabilityOfImprovement(m, 1.0),
    "qSR": acquisitions.qSimpleRegret,
    "qNIPV": lambda m: acquisitions.qNegIntegratedPosteriorVariance(m, optima(m)[:, 0]),
    "qMES": lambda m: qMaxValueEntropy(m, optima(m)[:, 0]),
    "qJES": lambda m: qJointEntropySearch(m, optima(m)[:, 0], torch.full((8, 1), 1.5).double()),
    "qPES": lambda m: qPredictiveEntropySearch(m, optima(m)[:, 0]),
    "qKG": lambda m: acquisitions.qKnowledgeGradient(m, num_fantasies=3),
}


@pytest.mark.parametrize("name", MAKERS)
def test_acquisitions_of_every_family_are_optimized_on_it(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        acquisition = MAKERS[name](to_botorch(posterior()))
        candidate, value = optimize_acqf(acquisition, BOUNDS, 1, 3, 16)
        grid = torch.rand(64, 1, 2, dtype=torch.double)
        if name != "qKG":  # whose sets hold fantasies too
            with torch.no_grad():
                assert value >= acquisition(grid).max() - 1e-9
    assert candidate.shape == (1, 2)
    assert ((candidate >= 0) & (candidate <= 1)).all()


def test_botorchs_log_expected_improvement_is_ours():
    own = posterior()
    points = np.random.default_rng(1).random((32, 2))
    theirs = acquisitions.LogExpectedImprovement(to_botorch(own), 1.0)
    with torch.no_grad():
        value = theirs(torch.tensor(points)[:, None]).numpy()
    assert value == pytest.approx(ExpectedImprovement(own, 1.0).value(points), abs=1e-6)


def test_there_and_back_is_the_same_posterior():
    own, points = posterior(), np.random.default_rng(1).random((8, 2))
    back = from_botorch(to_botorch(own))
    for a, b in zip(own.predict(points), back.predict(points), strict=True):
        assert a == pytest.approx(b, abs=1e-8)
