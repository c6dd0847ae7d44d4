"""Rotary frequencies stretched for longer texts: what each published scaling divides them by."""

from __future__ import annotations

import math


def llama3_factors(
    theta: float, width: int, factor: float, low: float, high: float, original_length: int
) -> tuple[float, ...]:
    """Llama 3's scaling: short wavelengths kept, long ones divided by `factor`, a smooth bend between.

    Wavelengths are compared with original_length/high and original_length/low positions.
    Source: "The Llama 3 Herd of Models" and its published rope_scaling parameters.
    """
    factors = []
    for i in range(width // 2):
        wavelength = 2 * math.pi * theta ** (2 * i / width)
        if wavelength < original_length / high:
            factors.append(1.0)
        elif wavelength > original_length / low:
            factors.append(factor)
        else:
            smooth = (original_length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(factors)


def linear_factors(width: int, factor: float) -> tuple[float, ...]:
    """Position interpolation: every frequency divided by the same factor."""
    return (factor,) * (width // 2)


def yarn_factors(
    theta: float, width: int, factor: float, fast: float, slow: float, original_length: int, whole: bool = True
) -> tuple[float, ...]:
    """YaRN: frequencies that turn `fast` times or more within the original length are kept, those of `slow`
    or less are divided by `factor`; in between, the two are mixed. whole: the bounds are rounded to whole pairs.

    Source: Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023, section 3.2.
    """

    def pair(turns: float) -> float:
        return width * math.log(original_length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(fast), pair(slow)
    if whole:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    span = high - low or 0.001
    factors = []
    for i in range(width // 2):
        divided = min(max((i - low) / span, 0.0), 1.0)
        factors.append(1 / (divided / factor + (1 - divided)))
    return tuple(factors)


def yarn_gain(factor: float, weight: float = 1.0) -> float:
    """How much sharper attention is made for texts `factor` times as long: 0.1 · weight · ln(factor) + 1."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0
