"""Gymnasium, or the one line that says how to install it."""

from __future__ import annotations

from fisherbo.errors import MissingExtraError

try:
    import gymnasium as gymnasium
    from gymnasium import spaces as spaces
except ImportError as missing:
    raise MissingExtraError("gymnasium", "rl") from missing
