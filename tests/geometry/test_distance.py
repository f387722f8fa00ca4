from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    MultivariateNormal,
    Normal,
    Poisson,
)
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import (
    coordinates,
    fisher_information,
    fisher_rao_bounds,
    fisher_rao_distance,
    from_coordinates,
    geodesic,
    kl,
)

distance = fisher_rao_distance


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def matrix(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


ORIGIN = f64(0.0, 0.0)
IDENTITY = matrix((1.0, 0.0), (0.0, 1.0))
SHARED = matrix((1.0, 0.3), (0.3, 2.0))

NUMBERS = [
    (Normal(f64(0.0), f64(1.0)), Normal(f64(1.0), f64(2.0)), 1.1893809314064119),
    (Normal(f64(0.0), f64(1.0)), Normal(f64(0.0), f64(math.e)), math.sqrt(2)),
    (
        MultivariateNormal(ORIGIN, IDENTITY),
        MultivariateNormal(ORIGIN, matrix((2.0, 0.0), (0.0, 3.0))),
        0.9185319740571865,
    ),
    (
        MultivariateNormal(ORIGIN, SHARED),
        MultivariateNormal(f64(1.0, 2.0), SHARED),
        1.5121945414283324,
    ),
    (Categorical(f64(0.2, 0.3, 0.5)), Categorical(f64(0.6, 0.3, 0.1)), 1.0311192173629504),
    (Binomial(10, f64(0.2)), Binomial(10, f64(0.7)), 3.3362597097327527),
    (Bernoulli(f64(0.2)), Bernoulli(f64(0.7)), 3.3362597097327527 / math.sqrt(10)),
    (Poisson(f64(1.0)), Poisson(f64(4.0)), 2.0),
    (Exponential(f64(1.0)), Exponential(f64(math.e)), 1.0),
    # geomstats 2.8.0, UnivariateNormalDistributions and CenteredNormalDistributions
    (Normal(f64(0.3), f64(1.0)), Normal(f64(1.0), f64(2.0)), 1.088711603407038),
    (
        MultivariateNormal(ORIGIN, matrix((2.0, 0.3), (0.3, 1.0))),
        MultivariateNormal(ORIGIN, matrix((1.0, -0.4), (-0.4, 3.0))),
        1.0287832655592286,
    ),
]
pairs = pytest.mark.parametrize(
    ("p", "q", "number"), NUMBERS, ids=[f"{type(p).__name__}-{d:.3f}" for p, _, d in NUMBERS]
)


@pairs
def test_numbers(p, q, number) -> None:
    assert distance(p, q).item() == pytest.approx(number, abs=1e-10)


@pairs
def test_float32_gives_the_same_numbers(p, q, number) -> None:
    p, q = (from_coordinates(d, coordinates(d).float()) for d in (p, q))
    assert distance(p, q).dtype == torch.float32
    assert distance(p, q).item() == pytest.approx(number, rel=1e-5)
    assert coordinates(geodesic(p, q, 0.5)).dtype == torch.float32


def test_midpoint_of_two_normals() -> None:
    middle = geodesic(Normal(f64(0.0), f64(1.0)), Normal(f64(1.0), f64(2.0)), 0.5)
    assert_close(middle.loc, f64(1 / 3), rtol=0, atol=1e-10)
    assert_close(middle.scale, f64(1.4529663145135587), rtol=0, atol=1e-10)


@pairs
def test_a_geodesic_is_as_long_as_the_distance_and_its_neighbours_are_longer(p, q, number) -> None:
    """The length ∫√(γ̇ᵀFγ̇)dt of the curve itself, by the midpoint rule on 400 pieces."""
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    curve = torch.stack([coordinates(geodesic(p, q, time)).flatten() for time in t])

    def length(points: Tensor) -> float:
        step, middle = points.diff(dim=0), (points[1:] + points[:-1]) / 2
        member = p if not p.batch_shape else type(p)(**first_member(p))
        fisher = fisher_information(from_coordinates(member, middle))
        return torch.einsum("si,sij,sj->s", step, fisher, step).sqrt().sum().item()

    assert length(curve) == pytest.approx(number, rel=1e-4)
    bump = 0.05 * torch.sin(math.pi * t)[:, None]
    if curve.shape[1] > 1:  # one coordinate leaves no other way
        bent = curve + bump * torch.tensor([1.0] + [0.0] * (curve.shape[1] - 1))
        assert length(bent) > number * (1 + 1e-4)


def first_member(p: Distribution) -> dict[str, Tensor]:
    names = [n for n in ("total_count", "probs", "rate", "loc", "scale") if hasattr(p, n)]
    return {n: getattr(p, n)[0] for n in names}


# --- properties ---

units = st.floats(0.01, 0.99)
positives = st.floats(0.05, 20.0)
reals = st.floats(-5.0, 5.0)
times = st.floats(0.0, 1.0)


def normals(dimension: int) -> st.SearchStrategy[Distribution]:
    return st.builds(
        lambda seed, scale: MultivariateNormal(
            torch.zeros(dimension).double(), spd(seed, dimension) * scale
        ),
        st.integers(0, 10_000),
        positives,
    )


def spd(seed: int, n: int) -> Tensor:
    root = torch.randn(n, n + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.mT + 0.05 * torch.eye(n, dtype=torch.float64)


members = st.sampled_from(
    [
        st.builds(lambda p: Bernoulli(f64(p)[0]), units),
        st.builds(lambda p: Binomial(6, f64(p)[0]), units),
        st.builds(lambda a, b, c: Categorical(f64(a, b, c)), units, units, units),
        st.builds(lambda r: Poisson(f64(r)[0]), positives),
        st.builds(lambda r: Exponential(f64(r)[0]), positives),
        st.builds(lambda m, s: Normal(f64(m)[0], f64(s)[0]), reals, positives),
        normals(3),
        st.builds(lambda m, k: MultivariateNormal(f64(m, k), SHARED), reals, reals),
    ]
)
triples = members.flatmap(lambda family: st.tuples(family, family, family))


@given(triples)
def test_symmetry_and_triangle_inequality(triple) -> None:
    p, q, r = triple
    assert distance(p, q).item() == pytest.approx(distance(q, p).item(), rel=1e-9, abs=1e-12)
    assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-9
    assert distance(p, p).item() == pytest.approx(0.0, abs=1e-12)


@given(triples, times)
def test_geodesics_are_walked_at_constant_speed(triple, t) -> None:
    p, q, _ = triple
    middle, length = geodesic(p, q, t), distance(p, q).item()
    if isinstance(p, MultivariateNormal) and p.loc.ne(q.loc).any():
        middle, length = along_mean_difference(p, q, t), length
    assert distance(p, middle).item() == pytest.approx(t * length, rel=1e-7, abs=1e-7)
    assert distance(middle, q).item() == pytest.approx((1 - t) * length, rel=1e-7, abs=1e-7)


def along_mean_difference(p: MultivariateNormal, q: MultivariateNormal, t: float) -> Distribution:
    """The geodesic, after a check that it has left the set of equal covariances."""
    middle = geodesic(p, q, t)
    leaves = not torch.allclose(middle.covariance_matrix, p.covariance_matrix, rtol=1e-6)
    far = distance(p, q) > 0.1
    assert leaves or not far or not 0.01 < t < 0.99
    return middle


@given(triples)
def test_ends_of_a_geodesic_are_the_given_distributions(triple) -> None:
    p, q, _ = triple
    assert_close(coordinates(geodesic(p, q, 0.0)), coordinates(p), rtol=1e-9, atol=1e-9)
    assert_close(coordinates(geodesic(p, q, 1.0)), coordinates(q), rtol=1e-9, atol=1e-9)


@given(triples)
def test_near_points_are_root_two_kl_apart(triple) -> None:
    p, q, _ = triple
    near = geodesic(p, q, 1e-3 / max(1e-3, distance(p, q).item()))
    if distance(p, near) > 5e-4:
        ratio = (2 * kl(p, near)).sqrt() / distance(p, near)
        assert ratio.item() == pytest.approx(1.0, abs=2e-3)


@given(st.integers(0, 10_000), reals, reals)
def test_distances_ignore_affine_maps_of_the_data(seed, shift, stretch) -> None:
    """x ↦ Ax + b is a change of variable, the same for both, so no information is lost."""
    stretch = math.exp(stretch)
    p, q = Normal(f64(0.3), f64(1.5)), Normal(f64(-1.0), f64(0.4))
    moved = [Normal(stretch * d.loc + shift, stretch * d.scale) for d in (p, q)]
    assert_close(distance(*moved), distance(p, q), rtol=1e-9, atol=1e-12)
    a, left, right = spd(seed, 3) * stretch, spd(seed + 1, 3), spd(seed + 2, 3)
    mean = f64(1.0, 2.0, 3.0)
    plain = [MultivariateNormal(mean, c) for c in (left, right)]
    mapped = [MultivariateNormal(a @ mean + shift, a @ c @ a.mT) for c in (left, right)]
    assert_close(distance(*mapped), distance(*plain), rtol=1e-6, atol=1e-6)


@given(st.floats(1e-12, 1e-6))
def test_near_points_keep_their_digits(gap) -> None:
    """The line element √F·gap; arccos and arccosh give 0 or noise here."""
    q = 0.3 + gap
    width = q - 0.3
    assert distance(Bernoulli(f64(0.3)), Bernoulli(f64(q))).item() == pytest.approx(
        width / math.sqrt(0.21), rel=1e-5
    )
    p3, q3 = Categorical(f64(0.25, 0.25, 0.5)), Categorical(f64(0.25 + gap, 0.25 - gap, 0.5))
    moved = (q3.probs - p3.probs)[0].item()
    assert distance(p3, q3).item() == pytest.approx(moved * math.sqrt(8), rel=1e-4)
    for family in (Poisson, Exponential):
        root = 1.0 if family is Exponential else math.sqrt(1.0)
        end = 1.0 + gap
        assert distance(family(f64(1.0)), family(f64(end))).item() == pytest.approx(
            (end - 1.0) / root, rel=1e-5
        )
    assert distance(Normal(f64(0.0), 2.0), Normal(f64(gap), 2.0)).item() == pytest.approx(
        gap / 2, rel=1e-9
    )


# --- edges, shapes, gradients, refusals ---


def test_distances_to_a_vertex_are_finite() -> None:
    vertex = Categorical(f64(1.0, 0.0, 0.0))
    assert distance(vertex, Categorical(f64(0.0, 1.0, 0.0))).item() == pytest.approx(math.pi)
    centre = Categorical(f64(1.0, 1.0, 1.0))
    assert distance(vertex, centre).item() == pytest.approx(2 * math.acos(3**-0.5))
    assert distance(vertex, vertex).item() == 0.0
    assert distance(Bernoulli(f64(0.0)), Bernoulli(f64(1.0))).item() == pytest.approx(math.pi)
    assert distance(Poisson(f64(0.0)), Poisson(f64(4.0))).item() == pytest.approx(4.0)
    middle = geodesic(vertex, Categorical(f64(0.0, 1.0, 0.0)), 0.5)
    assert_close(middle.probs, f64(0.5, 0.5, 0.0))


def test_far_points_do_not_overflow() -> None:
    p, q = Normal(f64(0.0), f64(1e-150)), Normal(f64(1.0), f64(1e150))
    assert distance(p, q).item() == pytest.approx(math.sqrt(2) * 300 * math.log(10), rel=1e-9)
    assert geodesic(p, q, 0.5).scale.item() == pytest.approx(1.0, rel=1e-9)
    low, high = Exponential(f64(1e-300)), Exponential(f64(1e300))
    assert distance(low, high).item() == pytest.approx(600 * math.log(10), rel=1e-9)


def test_batch_shapes_broadcast_and_agree_with_single_pairs() -> None:
    p = Normal(torch.arange(3.0).double(), 1.0)
    q = Normal(torch.zeros(2, 1).double(), torch.tensor([[1.0], [2.0]]).double())
    together = distance(p, q)
    assert together.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            single = distance(Normal(p.loc[j], 1.0), Normal(q.loc[i, 0], q.scale[i, 0]))
            assert_close(together[i, j], single)
    t = torch.tensor([0.0, 0.5, 1.0]).double()[:, None, None]
    assert geodesic(p, q, t).batch_shape == (3, 2, 3)
    categorical = Categorical(torch.rand(2, 1, 4)), Categorical(torch.rand(3, 4))
    assert distance(*categorical).shape == (2, 3)
    assert geodesic(*categorical, 0.3).batch_shape == (2, 3)
    multivariate = (
        MultivariateNormal(torch.zeros(4, 1, 2), torch.eye(2)),
        MultivariateNormal(torch.zeros(2), torch.stack([torch.eye(2), 2 * torch.eye(2)])),
    )
    assert distance(*multivariate).shape == (4, 2)
    assert geodesic(*multivariate, t.float()).batch_shape == (3, 4, 2)


@pytest.mark.parametrize(
    ("family", "theta", "other"),
    [
        (lambda x: Bernoulli(x[0]), f64(0.3), f64(0.6)),
        (lambda x: Binomial(3, x[0]), f64(0.3), f64(0.6)),
        (lambda x: Categorical(x), f64(0.2, 0.3, 0.5), f64(0.6, 0.3, 0.1)),
        (lambda x: Poisson(x[0]), f64(1.0), f64(3.0)),
        (lambda x: Exponential(x[0]), f64(1.0), f64(3.0)),
        (lambda x: Normal(x[0], x[1]), f64(0.0, 1.0), f64(1.0, 2.0)),
        (lambda x: MultivariateNormal(x, SHARED), f64(0.0, 1.0), f64(1.0, 3.0)),
        (lambda x: MultivariateNormal(ORIGIN, torch.diag(x)), f64(1.0, 2.0), f64(3.0, 0.5)),
    ],
)
def test_gradients_are_those_of_finite_differences_and_zero_at_the_point(
    family, theta, other
) -> None:
    theta = theta.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: distance(family(x), family(other)), theta)
    (still,) = torch.autograd.grad(distance(family(theta), family(theta.detach())), theta)
    assert_close(still, torch.zeros_like(theta))


def test_gradients_flow_along_a_geodesic() -> None:
    loc = f64(0.0).requires_grad_()
    geodesic(Normal(loc, 1.0), Normal(f64(1.0), f64(2.0)), 0.5).loc.sum().backward()
    assert loc.grad.item() > 0


def test_pairs_that_do_not_fit_are_refused() -> None:
    normal = Normal(f64(0.0), 1.0)
    with pytest.raises(InvalidInputError, match=r"one family out of Bernoulli.*Normal and Poisson"):
        distance(normal, Poisson(f64(1.0)))
    with pytest.raises(InvalidInputError, match="numbers of trials"):
        distance(Binomial(3, f64(0.5)), Binomial(4, f64(0.5)))
    with pytest.raises(InvalidInputError, match="events of one size"):
        distance(Categorical(torch.ones(2)), Categorical(torch.ones(3)))
    with pytest.raises(InvalidInputError, match="batch shapes must broadcast"):
        distance(Poisson(torch.ones(2)), Poisson(torch.ones(3)))
    with pytest.raises(InvalidInputError, match="scale of Normal"):
        distance(normal, Normal(f64(0.0), f64(-1.0), validate_args=False))
    for t in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidInputError, match=r"t must be in \[0, 1\]"):
            geodesic(normal, normal, t)
    with pytest.raises(InvalidInputError, match="use fisher_rao_distance"):
        fisher_rao_bounds(normal, normal)
