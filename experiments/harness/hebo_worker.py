"""HEBO behind lines of JSON, run by the interpreter of HEBO's own environment (see peers.Hebo).

    python -m venv /tmp/hebo-env
    /tmp/hebo-env/bin/pip install --prefer-binary torch==2.13.0 numpy==1.24.4 scipy==1.11.4 \
        "pandas<2.3" "scikit-learn<1.6" gpytorch==1.15.2 disjoint-set catboost GPy paramz \
        pymoo==0.6.0
    /tmp/hebo-env/bin/pip install --no-deps hebo==0.3.6

Its arguments are a seed and the records of HEBO's design space. A line {} is answered by a point,
{"params": ...}, and {"params": ..., "value": v} tells; every answer has its CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
import warnings


def main() -> None:
    """Answer line by line until the input ends."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # HEBO prints
    import numpy as np
    import pandas as pd
    import torch
    from hebo.design_space.design_space import DesignSpace
    from hebo.optimizers.hebo import HEBO

    seed, records = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    np.random.seed(seed)  # noqa: NPY002  # HEBO draws from the global generators
    torch.manual_seed(seed)
    hebo = HEBO(DesignSpace().parse(records), scramble_seed=seed)
    for line in sys.stdin:
        start, told, answer = time.process_time(), json.loads(line), {}
        if told:
            hebo.observe(pd.DataFrame([told["params"]]), np.array([[told["value"]]]))
        else:
            (answer["params"],) = hebo.suggest(1).to_dict("records")
        answer["cpu_seconds"] = time.process_time() - start
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
