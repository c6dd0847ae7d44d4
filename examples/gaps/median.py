"""Small statistics."""


def mean(values: list[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def median(values: list[float]) -> float:
    """The middle value; the mean of the two middle ones where the count is even."""
    <CURSOR>


def spread(values: list[float]) -> float:
    """The difference of the largest and the smallest value."""
    return max(values) - min(values)
