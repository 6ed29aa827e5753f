"""The runtime's noise, written a second time: Philox 4x32-10 and Box–Muller, in f64."""

import numpy

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
N_ROUNDS = 10
MASK = numpy.uint64(0xFFFFFFFF)


def words(seed, image, replica, step, n):
    """`n` pseudo-random words of 32 bits: word `e` is number `e % 4` of the block `e // 4`."""
    blocks = numpy.arange((n + 3) // 4, dtype=numpy.uint64)
    counter = [blocks, *(numpy.full_like(blocks, value) for value in (step, image, replica))]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(N_ROUNDS):
        products = [numpy.uint64(MULTIPLIERS[0]) * counter[0], numpy.uint64(MULTIPLIERS[1]) * counter[2]]
        high, low = zip(*((product >> numpy.uint64(32), product & MASK) for product in products))
        counter = [
            high[1] ^ counter[1] ^ numpy.uint64(key[0]),
            low[1],
            high[0] ^ counter[3] ^ numpy.uint64(key[1]),
            low[0],
        ]
        key = [(key[i] + WEYL[i]) & 0xFFFFFFFF for i in range(2)]
    return numpy.stack(counter, axis=1).reshape(-1)[:n]


def uniforms(seed, image, replica, step, n):
    """Independent uniform numbers in (-1, 1)."""
    return 2 * (words(seed, image, replica, step, n) + 0.5) / 2**32 - 1


def normals(seed, image, replica, step, n):
    """Independent standard normal numbers."""
    numbers = (words(seed, image, replica, step, n + -n % 2) + 0.5) / 2**32
    radius = numpy.sqrt(-2 * numpy.log(numbers[0::2]))
    angle = 2 * numpy.pi * numbers[1::2]
    return numpy.stack([radius * numpy.cos(angle), radius * numpy.sin(angle)], axis=1).reshape(-1)[:n]
