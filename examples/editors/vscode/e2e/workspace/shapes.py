"""Areas and lengths of plane figures."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Circle:
    radius: float

    def area(self) -> float:
        """The area that the circle encloses."""
        return math.pi * self.radius**2

    def circumference(self) -> float:
        """The length of the circle's edge."""


@dataclass(frozen=True)
class Rectangle:
    width: float
    height: float

    def area(self) -> float:
        """The area that the rectangle encloses."""
        return self.width * self.height
