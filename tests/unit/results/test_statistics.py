import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results.statistics import accuracy_interval, difference, difference_noise, holm

percent = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)
scores = st.lists(st.tuples(percent, percent), min_size=3, max_size=12)


@given(scores)
@settings(deadline=None, max_examples=40)
def test_a_difference_is_that_of_the_textbook_formula(pairs: list[tuple[float, float]]) -> None:
    variant, base = np.array(pairs).T
    change = variant - base
    found = difference(variant, base)
    assert found.mean == pytest.approx(change.mean(), abs=1e-9)
    n, error = len(change), change.std(ddof=1) / math.sqrt(len(change))
    if error < 1e-6:
        return
    assert found.low is not None
    assert found.high is not None
    half = stats.t.ppf(0.975, n - 1) * error
    assert (found.low, found.high) == pytest.approx((change.mean() - half, change.mean() + half), abs=1e-6)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(change.mean()) / error, n - 1), abs=1e-6)
    assert (found.p_ranks is not None) == (n >= 6)
    if found.p_ranks is not None:
        assert found.p_ranks == pytest.approx(stats.wilcoxon(variant, base).pvalue, abs=1e-9)


def test_fewer_than_three_seeds_conclude_nothing() -> None:
    found = difference([90.0, 92.0], [80.0, 81.0])
    assert (found.n, found.mean) == (2, 10.5)
    assert (found.low, found.high, found.p, found.p_ranks) == (None, None, None, None)


def test_differences_without_spread_have_no_interval() -> None:
    assert difference([3.0, 4.0, 5.0], [2.0, 3.0, 4.0]).p is None
    assert difference([3.0, 4.0, 5.0], [2.0, 3.0, 4.0]).mean == 1


def test_scores_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize("seeds", [3, 5])
def test_without_a_true_difference_one_in_twenty_is_claimed_and_intervals_cover_it(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    claims, covered, truth = 0, 0, 1.5
    for _ in range(2000):
        of_seed = generator.normal(90, 2, seeds)  # shared by both, as order and augmentation are
        base, variant = of_seed + generator.normal(0, 0.5, seeds), of_seed + generator.normal(0, 0.5, seeds)
        p = difference(variant, base).p
        claims += p is not None and p < 0.05
        shifted = difference(variant + truth, base)
        assert shifted.low is not None
        assert shifted.high is not None
        covered += shifted.low <= truth <= shifted.high
    assert 0.03 <= claims / 2000 <= 0.07
    assert 0.93 <= covered / 2000 <= 0.97


def test_holm_corrects_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert q is not None
        assert p <= q <= min(1, p * len(p_values)) or q == pytest.approx(min(1, p * len(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert all(a <= b for a, b in zip(np.array(corrected)[order], np.array(corrected)[order][1:]))


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1))
def test_an_accuracys_interval_is_wilsons(images: int, share: float) -> None:
    right = round(share * images)
    low, high = accuracy_interval(100 * right / images, images)
    z, p = stats.norm.ppf(0.975), right / images
    centre = (p + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * math.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    assert (low, high) == pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-6)


def test_the_noise_of_a_difference_covers_it_in_95_of_100_draws() -> None:
    generator, images, inside = np.random.default_rng(0), 400, 0
    for _ in range(4000):
        first, second = (100 * generator.binomial(images, p) / images for p in (0.9, 0.85))
        inside += abs((first - second) - 5) <= difference_noise(first, second, images)
    assert 0.94 <= inside / 4000 <= 0.96
