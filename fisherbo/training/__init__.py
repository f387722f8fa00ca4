"""Training of networks: the K-FAC optimizer, the loop it runs in and the networks to try it on."""

from fisherbo.training.callbacks import MLflow, Report, TensorBoard, TracePoint
from fisherbo.training.coverage import Coverage
from fisherbo.training.kfac import KFAC
from fisherbo.training.likelihoods import Likelihood
from fisherbo.training.loop import TrainingResult, fit
from fisherbo.training.models import autoencoder, mlp
from fisherbo.training.natural import NaturalGradient
from fisherbo.training.plan import StepReport

__all__ = [
    "KFAC",
    "Coverage",
    "Likelihood",
    "MLflow",
    "NaturalGradient",
    "Report",
    "StepReport",
    "TensorBoard",
    "TracePoint",
    "TrainingResult",
    "autoencoder",
    "fit",
    "mlp",
]
