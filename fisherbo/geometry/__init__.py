"""Information geometry: metrics, natural gradients and the matrix factorisations below them.

Public names are imported when they are first used: `lapack` and `lowrank` need NumPy only, the
others torch. Distributions are those of `torch.distributions`, batched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fisherbo.geometry.charts import score_covariance as score_covariance
    from fisherbo.geometry.distance import fisher_rao_distance as fisher_rao_distance
    from fisherbo.geometry.distance import geodesic as geodesic
    from fisherbo.geometry.divergence import kl as kl
    from fisherbo.geometry.families import coordinates as coordinates
    from fisherbo.geometry.families import fisher_information as fisher_information
    from fisherbo.geometry.families import from_coordinates as from_coordinates
    from fisherbo.geometry.jeffreys import jeffreys_normaliser as jeffreys_normaliser
    from fisherbo.geometry.jeffreys import jeffreys_prior as jeffreys_prior
    from fisherbo.geometry.jeffreys import log_jeffreys_density as log_jeffreys_density
    from fisherbo.geometry.linalg import conjugate_gradients as conjugate_gradients
    from fisherbo.geometry.linalg import kronecker_solve as kronecker_solve
    from fisherbo.geometry.markov import fisher_inner as fisher_inner
    from fisherbo.geometry.markov import is_congruent as is_congruent
    from fisherbo.geometry.markov import markov_embedding as markov_embedding
    from fisherbo.geometry.markov import push_forward as push_forward
    from fisherbo.geometry.markov import push_tangent as push_tangent
    from fisherbo.geometry.metric import KroneckerMetric as KroneckerMetric
    from fisherbo.geometry.metric import MatrixFreeMetric as MatrixFreeMetric
    from fisherbo.geometry.metric import Metric as Metric
    from fisherbo.geometry.metric import fisher_vector_product as fisher_vector_product
    from fisherbo.geometry.metric import natural_gradient as natural_gradient
    from fisherbo.geometry.metric import pull_back as pull_back
    from fisherbo.geometry.mirror import mirror_step as mirror_step
    from fisherbo.geometry.mirror import replicator_step as replicator_step
    from fisherbo.geometry.normals import Bounds as Bounds
    from fisherbo.geometry.normals import fisher_rao_bounds as fisher_rao_bounds
    from fisherbo.geometry.trust_region import kl_step_length as kl_step_length

_NAMES = {
    "charts": ("score_covariance",),
    "distance": ("fisher_rao_distance", "geodesic"),
    "divergence": ("kl",),
    "families": ("coordinates", "fisher_information", "from_coordinates"),
    "jeffreys": ("jeffreys_normaliser", "jeffreys_prior", "log_jeffreys_density"),
    "linalg": ("conjugate_gradients", "kronecker_solve"),
    "markov": ("fisher_inner", "is_congruent", "markov_embedding", "push_forward", "push_tangent"),
    "metric": (
        "KroneckerMetric",
        "MatrixFreeMetric",
        "Metric",
        "fisher_vector_product",
        "natural_gradient",
        "pull_back",
    ),
    "normals": ("Bounds", "fisher_rao_bounds"),
    "mirror": ("mirror_step", "replicator_step"),
    "trust_region": ("kl_step_length",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Bounds",
    "KroneckerMetric",
    "MatrixFreeMetric",
    "Metric",
    "conjugate_gradients",
    "coordinates",
    "fisher_information",
    "fisher_inner",
    "fisher_rao_bounds",
    "fisher_rao_distance",
    "fisher_vector_product",
    "from_coordinates",
    "geodesic",
    "is_congruent",
    "jeffreys_normaliser",
    "jeffreys_prior",
    "kl",
    "kl_step_length",
    "kronecker_solve",
    "log_jeffreys_density",
    "markov_embedding",
    "mirror_step",
    "natural_gradient",
    "pull_back",
    "push_forward",
    "push_tangent",
    "replicator_step",
    "score_covariance",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fisherbo.geometry' has no attribute {name!r}")
    value = getattr(import_module(f"fisherbo.geometry.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
