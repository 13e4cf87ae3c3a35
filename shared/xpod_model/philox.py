"""Philox 4x32-10: a counter-based random generator, a pure function of key and counter.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
It knows integers; what they are drawn for, it does not know.
"""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF

Words = tuple[int, int, int, int]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Four 32-bit words from four words of counter and two of key."""
    a, b, c, d = counter
    k, m = key
    for _ in range(ROUNDS):
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (second >> 32) ^ b ^ k, second & WORD, (first >> 32) ^ d ^ m, first & WORD
        k, m = (k + WEYL[0]) & WORD, (m + WEYL[1]) & WORD
    return a, b, c, d


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits, the same for the same seed (taken modulo 2⁶⁴) and position."""
    counter = (position & WORD, (position >> 32) & WORD, 0, 0)
    high, low, _, _ = philox(counter, (seed & WORD, (seed >> 32) & WORD))
    return ((high >> 5) * 67_108_864 + (low >> 6)) / 9_007_199_254_740_992
