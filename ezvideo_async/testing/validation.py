"""Validation of the arguments of the fake server."""

from __future__ import annotations

import math


def validate_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError that lists *choices* unless *value* is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; not {value!r}")


def validate_seconds(name: str, value: float) -> None:
    """Raise a ValueError unless *value* is finite and not negative."""
    if not 0 <= value < math.inf:  # false for NaN, too
        raise ValueError(f"{name} must be finite seconds, 0 or more, not {value!r}")
