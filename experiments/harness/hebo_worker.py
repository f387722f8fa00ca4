"""HEBO behind lines of JSON, run by the interpreter of HEBO's own environment (see peers.Hebo).

    python -m venv /tmp/hebo-env
    /tmp/hebo-env/bin/pip install --prefer-binary torch==2.13.0 numpy==1.24.4 scipy==1.11.4 \
        "pandas<2.3" "scikit-learn<1.6" gpytorch==1.15.2 disjoint-set catboost GPy paramz \
        pymoo==0.6.0
    /tmp/hebo-env/bin/pip install --no-deps hebo==0.3.6

The first line in is {"space": {name: Optuna's JSON}, "seed": s}; then {"ask": true} is answered by
{"params": ...}, and {"params": ..., "value": v} tells; every answer has its CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any


class Optimizer:
    """HEBO over a space, indices in place of stepped ranges."""

    def __init__(self, space: Mapping[str, str], seed: int) -> None:
        import numpy as np
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO

        np.random.seed(seed)  # noqa: NPY002  # HEBO draws from the global generators
        torch.manual_seed(seed)
        self._space = {name: json.loads(text) for name, text in space.items()}
        records = [
            {"name": n, **_record(d["name"], d["attributes"])} for n, d in self._space.items()
        ]
        self._hebo = HEBO(DesignSpace().parse(records), scramble_seed=seed)

    def ask(self) -> dict[str, Any]:
        """HEBO's next point, in Optuna's values."""
        row = self._hebo.suggest(1).iloc[0]
        return {n: _from_hebo(d["attributes"], row[n]) for n, d in self._space.items()}

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        """Tell HEBO a loss."""
        import numpy as np
        import pandas as pd

        row = {n: _to_hebo(d["attributes"], params[n]) for n, d in self._space.items()}
        self._hebo.observe(pd.DataFrame([row]), np.array([[value]]))


def _record(kind: str, a: Mapping[str, Any]) -> dict[str, Any]:
    """A distribution as a record of HEBO's design space."""
    if kind == "CategoricalDistribution":
        return {"type": "cat", "categories": list(a["choices"])}
    if _is_stepped(a):
        return {"type": "int", "lb": 0, "ub": _to_hebo(a, a["high"])}
    types = {"IntDistribution": ("int", "pow_int"), "FloatDistribution": ("num", "pow")}
    record = {"type": types[kind][a["log"]], "lb": a["low"], "ub": a["high"]}
    return {**record, "base": 10} if a["log"] else record


def _is_stepped(a: Mapping[str, Any]) -> bool:
    return a.get("step") is not None and not (a["step"] == 1 and isinstance(a["low"], int))


def _to_hebo(a: Mapping[str, Any], value: Any) -> Any:
    return round((value - a["low"]) / a["step"]) if _is_stepped(a) else value


def _from_hebo(a: Mapping[str, Any], value: Any) -> Any:
    if "choices" in a:
        return value.item() if hasattr(value, "item") else value
    if _is_stepped(a):
        return a["low"] + a["step"] * round(value)
    kind: Callable[[Any], Any] = int if isinstance(a["low"], int) else float
    return min(max(kind(value), a["low"]), a["high"])


def main() -> None:
    """Answer line by line until the input ends."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # HEBO prints
    optimizer: Optimizer | None = None
    for line in sys.stdin:
        start, message = time.process_time(), json.loads(line)
        answer: dict[str, Any] = {}
        if optimizer is None:
            optimizer = Optimizer(message["space"], message["seed"])
            start = time.process_time()  # importing is not suggesting
        elif "ask" in message:
            answer["params"] = optimizer.ask()
        else:
            optimizer.tell(message["params"], message["value"])
        answer["cpu_seconds"] = time.process_time() - start
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
