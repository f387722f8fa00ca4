"""The errors that fisherbo raises on purpose, each with the rule, what was got and a remedy."""

from __future__ import annotations


class FisherboError(Exception):
    """Base of every error that fisherbo raises on purpose."""


class InvalidInputError(FisherboError, ValueError):
    """An argument, a file or an option breaks its rule."""


class MissingExtraError(FisherboError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'fisherbo[{extra}]'"
        )


class NumericalError(FisherboError, ArithmeticError):
    """A matrix that should be positive definite is not, or a value is not finite."""


class DivergedError(NumericalError):
    """A training run left the finite numbers."""


class StorageError(FisherboError, OSError):
    """A study's storage does not answer or cannot be used, or a file cannot be written."""
