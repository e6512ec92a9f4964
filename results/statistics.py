"""Statistics of repeated trainings: intervals, differences paired by seed, and corrections for many comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
"""Confidence of every interval."""
LEAST = 3
"""Seeds below which nothing can be concluded."""
LEAST_RANKS = 6
"""Seeds below which Wilcoxon's test cannot reach p < 0.05."""


@dataclass(frozen=True)
class Difference:
    """Of a variant to the base, both trained with the same seeds; None where nothing can be concluded."""

    n: int
    """Seeds that both were trained with."""
    mean: float
    low: float | None = None
    """Of the 95 % confidence interval of the mean difference."""
    high: float | None = None
    p: float | None = None
    """Of the paired t-test, two-sided."""
    p_ranks: float | None = None
    """Of Wilcoxon's signed-rank test, two-sided, from six seeds on."""


def difference(variant: ArrayLike, base: ArrayLike) -> Difference:
    """Compare a variant with the base, seed by seed.

    Args:
        variant: `(n,)`, a score for each seed.
        base: `(n,)`, of the same seeds in the same order.

    Raises:
        ValueError: if there are no scores, or not as many of both.
    """
    a, b = np.asarray(variant, float), np.asarray(base, float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"scores of shapes {a.shape} and {b.shape} cannot be paired; give one for each seed of both.")
    change = a - b
    if len(change) < LEAST:
        return Difference(len(change), float(change.mean()))
    if np.ptp(change) == 0:  # no spread to estimate from, such as all scores equal
        return Difference(len(change), float(change[0]))
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(LEVEL)
    ranks = float(stats.wilcoxon(change).pvalue) if len(change) >= LEAST_RANKS else None
    return Difference(
        len(change), float(change.mean()), float(interval.low), float(interval.high), float(test.pvalue), ranks
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number, which keeps the chance of any false claim (Holm 1979).

    Missing ones stay missing and do not count.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[index] = largest
    return corrected


def accuracy_interval(percent: float, images: int) -> tuple[float, float]:
    """Return the 95 % interval (Wilson 1927) of an accuracy in percent that was measured on so many images.

    It holds for shares of right answers, such as top-1 or identification, and not for mIoU; it knows nothing of how the
    accuracy varies between seeds.
    """
    interval = stats.binomtest(round(percent / 100 * images), images).proportion_ci(LEVEL, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def difference_noise(first: float, second: float, images: int) -> float:
    """Return the 95 % half-width of the difference of two accuracies in percent, each on the same number of images.

    The two count as independent, which is wide for networks that err on the same images.
    """
    shares = np.array([first, second]) / 100
    return float(100 * stats.norm.ppf(0.5 + LEVEL / 2) * np.sqrt((shares * (1 - shares)).sum() / images))
