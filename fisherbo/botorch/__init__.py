"""The natural gradient for BoTorch: an optimizer of acquisitions, and our posterior as a model.

>>> import torch
>>> from botorch.acquisition import LogExpectedImprovement
>>> from fisherbo.botorch import fit_model, optimize_acqf
>>> x = torch.linspace(0, 10, 8, dtype=torch.double)[:, None]
>>> bounds = torch.tensor([[0.0], [10.0]], dtype=torch.double)
>>> model = fit_model(x, torch.sin(x), bounds)
>>> acquisition = LogExpectedImprovement(model, best_f=0.99)
>>> candidate, value = optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=64)
>>> candidate.shape
torch.Size([1, 1])
"""

from fisherbo.botorch.candidates import gen_candidates_natural
from fisherbo.botorch.convert import from_botorch, to_botorch
from fisherbo.botorch.model import fit_model
from fisherbo.botorch.optimize import optimize_acqf

__all__ = ["fit_model", "from_botorch", "gen_candidates_natural", "optimize_acqf", "to_botorch"]
