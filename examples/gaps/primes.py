"""Prime numbers."""


def is_prime(number: int) -> bool:
    """Whether `number` is prime, by trial division up to its square root."""
    <CURSOR>


def primes_below(limit: int) -> list[int]:
    return [number for number in range(limit) if is_prime(number)]
