"""Makes golden.json: Fréchet distances by numpy, through the eigenvalues of the product of covariances.

python make.py > golden.json     (numpy 2; the sets are rounded, so that they are written exactly)
"""

import json

import numpy


def distance(x, y):
    """The published formula with tr (Σ₁Σ₂)^½ as the sum of the roots of the product's eigenvalues."""
    mean = ((x.mean(0) - y.mean(0)) ** 2).sum()
    one, other = (numpy.cov(features, rowvar=False) for features in (x, y))
    values = numpy.linalg.eigvals(one @ other)
    assert abs(values.imag).max() < 1e-9
    roots = numpy.sqrt(values.real.clip(0)).sum()
    return mean + numpy.trace(one) + numpy.trace(other) - 2 * roots


def case(name, x, y):
    return {
        "name": name,
        "x": x.tolist(),
        "y": y.tolist(),
        "covariance_x": numpy.cov(x, rowvar=False).tolist(),
        "distance": float(distance(x, y)),
    }


random = numpy.random.default_rng(3)


def features(n, d, mix, mean):
    return (random.normal(size=(n, d)) @ mix + mean).round(3)


mixes = [random.normal(size=(4, 4)) for _ in range(2)]
x, y = features(30, 4, mixes[0], 0.5), features(41, 4, mixes[1], -1.0)
dead = x.copy()
dead[:, 2] = 0
twice = y.copy()
twice[:, 3] = twice[:, 1]
print(
    json.dumps(
        [
            case("two sets", x, y),
            case("one correlated, one not", features(25, 3, numpy.eye(3), 0.0), features(60, 3, numpy.ones((3, 3)) + numpy.eye(3), 0.2)),
            case("a feature that never fires and one that is there twice", dead, twice),
        ],
        separators=(",", ":"),
    )
)
