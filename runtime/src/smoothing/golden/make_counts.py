#!/usr/bin/env python3
"""Makes counts.tsv: 1,000 vectors of votes, and what scipy makes of them. Needs only `scipy` and `numpy`; the bytes are the same on every run.

Each line, separated by tabs: sigma, alpha, votes of the selection, votes of the estimation, the certified class, its radius, the predicted class; `-` for
none. The rules are those of Cohen, Rosenfeld and Kolter (2019), figures CERTIFY and PREDICT; the predicted class follows from the votes of the estimation.
"""
import pathlib

import numpy as np
from scipy.stats import beta, binomtest, norm

N_CASES = 1000


def certified(sigma, alpha, selection, estimation):
    chosen = int(np.argmax(selection))
    k, n = int(estimation[chosen]), int(estimation.sum())
    probability = beta.ppf(alpha, k, n - k + 1) if k > 0 else 0.0
    return (chosen, sigma * norm.ppf(probability)) if probability > 0.5 else ("-", 0.0)


def predicted(alpha, votes):
    runner_up, leader = np.argsort(votes, kind="stable")[-2:]
    a, b = int(votes[leader]), int(votes[runner_up])
    return leader if a > b and binomtest(a, a + b, 0.5).pvalue <= alpha else "-"


def main():
    rng = np.random.default_rng(0)
    lines = []
    for case in range(N_CASES):
        sigma = rng.choice([0.12, 0.25, 0.5, 1.0])
        alpha = rng.choice([1e-6, 0.001, 0.01, 0.05, 0.3])
        n0 = int(rng.choice([1, 10, 100, 1000]))
        n = int(rng.choice([10, 100, 1000, 10_000, 100_000]))
        n_classes = int(rng.integers(2, 6))
        # From undecided to all of one class, and much just above one half.
        share = rng.choice([1.0, 0.9999, rng.uniform(0.3, 1), 0.5 + rng.normal() / np.sqrt(n), 0.5 + 3 * abs(rng.normal()) / np.sqrt(n)])
        share = min(max(share, 0.0), 1.0)
        others = rng.dirichlet(np.ones(n_classes - 1)) * (1 - share)
        probabilities = rng.permutation(np.concatenate([[share], others]))
        selection = rng.multinomial(min(n0, n), probabilities)
        estimation = rng.multinomial(n, probabilities)
        chosen, radius = certified(sigma, alpha, selection, estimation)
        votes = [",".join(map(str, counts)) for counts in (selection, estimation)]
        lines.append(f"{sigma}\t{alpha}\t{votes[0]}\t{votes[1]}\t{chosen}\t{radius:.10g}\t{predicted(alpha, estimation)}\n")
    pathlib.Path(__file__).with_name("counts.tsv").write_text("".join(lines))


main()
