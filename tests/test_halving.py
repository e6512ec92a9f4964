import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.halving import best_first, crowding_distance, goes_on
from search.study import HalvingConfig, Limits

POINTS = st.integers(1, 12).flatmap(lambda n: arrays(float, (n, 2), elements=st.integers(0, 5).map(float)))


@given(POINTS)
def test_a_dominated_trial_never_comes_before_the_one_that_dominates_it(losses: np.ndarray) -> None:
    place = {row: i for i, row in enumerate(best_first(losses))}
    for a in range(len(losses)):
        for b in range(len(losses)):
            if (losses[a] <= losses[b]).all() and (losses[a] < losses[b]).any():
                assert place[a] < place[b]


@given(POINTS, st.integers(2, 4))
def test_as_many_go_on_as_the_factor_says(losses: np.ndarray, factor: int) -> None:
    survivors = sum(goes_on(losses, row, factor) for row in range(len(losses)))
    assert survivors == -(-len(losses) // factor)


def test_the_first_trial_goes_on() -> None:
    assert goes_on(np.array([[5.0, 5.0]]), 0, 3)


def test_the_ends_of_a_front_come_before_its_middle() -> None:
    losses = np.array([[1.0, 1.1], [0.0, 2.0], [2.0, 0.0], [3.0, 3.0]])
    assert best_first(losses) == [1, 2, 0, 3]


def test_crowding_distance_by_hand() -> None:
    distance = crowding_distance(np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]]))
    np.testing.assert_allclose(distance, [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf])


def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch() -> None:
    assert HalvingConfig(first_rung=1, factor=3).rungs(10) == (1, 3, 9)
    assert HalvingConfig(first_rung=1, factor=3).rungs(9) == (1, 3)
    assert HalvingConfig(first_rung=4).rungs(4) == ()


def test_limits_measure_their_excess() -> None:
    limits = Limits(max_params=100, min_throughput=50)
    assert limits.excess({"params": 120, "macs": 7}) == {"max_params": 0.19999999999999996}
    assert limits.excess({"params": 100, "throughput": 25}) == {"max_params": 0.0, "min_throughput": 0.5}
