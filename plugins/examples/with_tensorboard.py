"""K-FAC on digits, with the loss, damping and KL divergence of its steps in TensorBoard."""

import json
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fisherbo import KFAC
from fisherbo.training import TensorBoard, fit


def main(steps: int, folder: str = "runs/tensorboard") -> None:
    """The loss before and after training as one line of JSON; the log is in the folder."""
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    result = fit(
        model,
        KFAC(model, likelihood="categorical"),
        nn.functional.cross_entropy,
        DataLoader(data, batch_size=256, shuffle=True),
        max_steps=steps,
        report_every=5,
        callbacks=[TensorBoard(folder)],
    )
    first, last = result.trace[0], result.trace[-1]
    print(json.dumps({"first": first.loss, "loss": last.loss, "steps": result.steps}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
