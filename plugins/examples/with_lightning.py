"""K-FAC in a Lightning module, its learning rate and damping tuned by FisherSampler."""

import json
import logging
import sys

import lightning
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fisherbo import KFAC, FisherSampler


class Digits(lightning.LightningModule):
    """A network of one hidden layer."""

    def __init__(self, lr: float, damping: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        self.lr, self.damping = lr, damping

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Loss of a batch."""
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the loss of a batch that is kept apart."""
        x, y = batch
        self.log("loss", nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> KFAC:
        """K-FAC of the network."""
        return KFAC(self.net, likelihood="categorical", lr=self.lr, damping=self.damping)


def batches() -> tuple[DataLoader, DataLoader]:
    """Digits to train on and to validate with."""
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    kept, rest = torch.utils.data.random_split(data, [400, 1397], torch.Generator().manual_seed(0))
    return DataLoader(rest, batch_size=128), DataLoader(kept, batch_size=400)


def objective(trial: optuna.Trial) -> float:
    """Validation loss after two epochs."""
    torch.manual_seed(0)
    lr = trial.suggest_float("lr", 1e-3, 1.0, log=True)
    model = Digits(lr, trial.suggest_float("damping", 1e-3, 1.0, log=True))
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, *batches())
    return float(trainer.callback_metrics["loss"])


def main(trials: int) -> None:
    """The best trial as one line of JSON."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=4))
    study.optimize(objective, n_trials=trials)
    first = study.trials[0].value
    print(json.dumps({"loss": study.best_value, "first": first, "params": study.best_params}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
