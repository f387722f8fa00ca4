import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fisherbo.sampler.models import prior_mean
from fisherbo.sampler.search_space import to_space


@pytest.mark.parametrize(
    ("distribution", "uninformed"),
    [
        (FloatDistribution(-5, 5), False),
        (FloatDistribution(0, 1, step=0.1), False),
        (IntDistribution(1, 9), False),
        (FloatDistribution(1e-4, 1, log=True), True),
        (IntDistribution(1, 900, log=True), True),
        (CategoricalDistribution(["a", "b"]), True),
    ],
)
def test_the_prior_mean_is_zero_where_the_scale_makes_all_values_plausible(
    distribution, uninformed
):
    space = to_space({"x": FloatDistribution(0, 1), "y": distribution})
    assert (prior_mean(space) == 0) == uninformed
    assert prior_mean(space) in (0, -1.5)
    assert prior_mean(space, single=False) == -1.5


@pytest.mark.parametrize(("count", "expected"), [(38, 0.0), (49, 0.0), (50, -1.5), (300, -1.5)])
def test_the_prior_mean_is_pessimistic_where_there_are_many_parameters(count, expected):
    logarithmic = {f"x{j}": FloatDistribution(1e-4, 1, log=True) for j in range(count)}
    assert prior_mean(to_space(logarithmic)) == expected
