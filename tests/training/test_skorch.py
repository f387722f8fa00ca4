"""K-FAC as the optimizer of a skorch net."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

from fisherbo.errors import InvalidInputError
from fisherbo.training import KFAC

skorch = pytest.importorskip("skorch")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import cross_val_score  # noqa: E402

INPUTS = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
X, Y = INPUTS.numpy(), (INPUTS[:, 0] > 0).long().numpy()
OPTIONS = {"criterion": nn.CrossEntropyLoss, "lr": 0.1, "max_epochs": 20, "verbose": 0}


class Net(skorch.NeuralNetClassifier):
    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        self.optimizer_ = KFAC(self.module_, likelihood="categorical", lr=self.lr)
        return self


def test_parameters_are_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidInputError, match=r"got list.*override initialize_optimizer"):
        skorch.NeuralNetClassifier(
            nn.Linear(4, 2), optimizer=KFAC, optimizer__likelihood="categorical", **OPTIONS
        ).fit(X, Y)


def test_a_net_is_cloned_cross_validated_and_pickled() -> None:
    net = Net(nn.Linear(4, 2), **OPTIONS)
    assert cross_val_score(clone(net), X, Y, cv=2).mean() > 0.9
    net.fit(X, Y)
    other = pickle.loads(pickle.dumps(net))
    for one in (net, other):
        torch.manual_seed(0)
        one.partial_fit(X, Y)
    assert other.history[-1]["train_loss"] == net.history[-1]["train_loss"]
    assert other.optimizer_._model is other.module_
