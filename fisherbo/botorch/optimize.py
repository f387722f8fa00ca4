"""`botorch.optim.optimize_acqf` by natural-gradient ascent, with its signature and its return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.generation.gen import TGenCandidates
from botorch.optim.initializers import TGenInitialConditions
from botorch.optim.optimize import optimize_acqf as botorch_optimize_acqf
from torch import Tensor

from fisherbo.botorch.candidates import gen_candidates_natural, refuse_constraints
from fisherbo.errors import InvalidInputError


def optimize_acqf(
    acq_function: AcquisitionFunction | None,
    bounds: Tensor,
    q: int,
    num_restarts: int,
    raw_samples: int | None = None,
    options: dict[str, bool | float | int | str] | None = None,
    inequality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
    equality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
    nonlinear_inequality_constraints: list[tuple[Callable[..., Any], bool]] | None = None,
    fixed_features: Mapping[int, float | Tensor] | None = None,
    post_processing_func: Callable[[Tensor], Tensor] | None = None,
    batch_initial_conditions: Tensor | None = None,
    return_best_only: bool = True,
    gen_candidates: TGenCandidates | None = None,
    sequential: bool = False,
    acq_function_sequence: list[AcquisitionFunction] | None = None,
    *,
    ic_generator: TGenInitialConditions | None = None,
    timeout_sec: float | None = None,
    return_acq_values: bool = True,
    return_full_tree: bool = False,
    retry_on_optimization_warning: bool = True,
    **ic_gen_kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The best candidates found and their acquisition values, as BoTorch returns them.

    Initial conditions, sequential greedy choice, post-processing and what is returned are BoTorch's
    own; the ascent from the initial conditions is `gen_candidates_natural`.

    Args:
        acq_function: A differentiable acquisition of any BoTorch model.
        bounds: Lower and upper bounds, shape ``(2, d)``.
        q: Number of candidates, joint unless ``sequential``.
        num_restarts: Number of starts.
        raw_samples: Points from which the starts are chosen.
        options: Options of the initial conditions, and ``maxiter``, the largest number of steps of
            an ascent.
        inequality_constraints: Refused.
        equality_constraints: Refused.
        nonlinear_inequality_constraints: Refused.
        fixed_features: Values of coordinates that do not move.
        post_processing_func: Applied to all candidates before the best is chosen.
        batch_initial_conditions: Starts, shape ``(b, q, d)``.
        return_best_only: Whether the candidates of one start or of every start are returned.
        gen_candidates: Must be None; `gen_candidates_natural` is used.
        sequential: Whether candidates are chosen one after the other.
        acq_function_sequence: One acquisition for each candidate.
        ic_generator: Generator of the initial conditions.
        timeout_sec: Seconds after which the ascent stops where it is.
        return_acq_values: Whether acquisition values are returned; if not, None is.
        return_full_tree: Whether all points of one-shot acquisitions are returned.
        retry_on_optimization_warning: Passed on to BoTorch; the ascent itself never warns.
        **ic_gen_kwargs: For the generator of initial conditions.

    Returns:
        Candidates ``(q, d)``, or ``(num_restarts, q, d)`` for all starts, and their values.

    Raises:
        InvalidInputError: If constraints, ``gen_candidates`` or options of another optimizer are
            given, or the acquisition has no BoTorch model or no gradient.
    """
    refuse_constraints(
        inequality_constraints=inequality_constraints,
        equality_constraints=equality_constraints,
        nonlinear_inequality_constraints=nonlinear_inequality_constraints,
    )
    if gen_candidates is not None:
        name = getattr(gen_candidates, "__name__", type(gen_candidates).__name__)
        raise InvalidInputError(
            f"gen_candidates must be None, got {name}; "
            "pass it to botorch.optim.optimize_acqf, which takes any generator"
        )
    return botorch_optimize_acqf(
        acq_function,
        bounds,
        q,
        num_restarts,
        raw_samples,
        options,
        fixed_features=fixed_features,
        post_processing_func=post_processing_func,
        batch_initial_conditions=batch_initial_conditions,
        return_best_only=return_best_only,
        # what is rounded or projected afterwards need not keep its order
        gen_candidates=partial(
            gen_candidates_natural, best_only=return_best_only and post_processing_func is None
        ),
        sequential=sequential,
        acq_function_sequence=acq_function_sequence,
        ic_generator=ic_generator,
        timeout_sec=timeout_sec,
        return_acq_values=return_acq_values,
        return_full_tree=return_full_tree,
        retry_on_optimization_warning=retry_on_optimization_warning,
        **ic_gen_kwargs,
    )
