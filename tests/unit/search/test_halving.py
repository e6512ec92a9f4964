import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from record.quantities import excess
from search.policies.halving import Halving
from search.ranking import Rung, best_first, crowding_distance, promotion


@st.composite
def rungs(draw: st.DrawFn) -> tuple[Rung, set[int]]:
    """A rung of up to 12 trials, with ties and infeasible ones, and those of them that wait."""
    count = draw(st.integers(1, 12))
    rung = Rung(
        numbers=np.array(draw(st.permutations(range(count)))),
        losses=draw(arrays(float, (count, draw(st.integers(2, 3))), elements=st.integers(0, 4).map(float))),
        excess=draw(arrays(float, count, elements=st.sampled_from([-0.1, 0.0, 0.0, 0.2, 0.3]))),
    )
    return rung, draw(st.sets(st.integers(0, count - 1)))


def dominates(rung: Rung, a: int, b: int) -> bool:
    """Whether row a comes before row b by right: feasible before infeasible, better in all objectives."""
    if (rung.excess[a] <= 0) != (rung.excess[b] <= 0):
        return bool(rung.excess[a] <= 0)
    if rung.excess[a] > 0:
        return bool(rung.excess[a] < rung.excess[b])
    return bool((rung.losses[a] <= rung.losses[b]).all() and (rung.losses[a] < rung.losses[b]).any())


@given(rungs(), st.integers(2, 4), st.booleans())
def test_no_trial_goes_on_while_one_that_is_better_in_all_waits(
    drawn: tuple[Rung, set[int]], factor: int, last: bool
) -> None:
    rung, waiting = drawn
    number = promotion([rung], [waiting], factor, last)
    if number is not None:
        row = list(rung.numbers).index(number)
        assert number in waiting
        assert not any(dominates(rung, a, row) for a, other in enumerate(rung.numbers) if other in waiting)


@given(rungs(), st.integers(2, 4), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_results_means_nothing(
    drawn: tuple[Rung, set[int]], factor: int, last: bool, random: object
) -> None:
    rung, waiting = drawn
    rows = list(range(len(rung.numbers)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    other = Rung(rung.numbers[rows], rung.losses[rows], rung.excess[rows])
    assert promotion([other], [waiting], factor, last) == promotion([rung], [waiting], factor, last)


@given(rungs(), st.integers(2, 4))
def test_as_many_go_on_as_the_factor_says(drawn: tuple[Rung, set[int]], factor: int) -> None:
    rung, _ = drawn
    assert len(rung.promotable(rung.numbers, factor, last=False)) == len(rung.numbers) // factor


@given(rungs())
def test_in_the_end_a_front_goes_on(drawn: tuple[Rung, set[int]]) -> None:
    rung, _ = drawn
    best = {
        int(rung.numbers[row])
        for row in np.flatnonzero(rung.excess <= 0)
        if not any(dominates(rung, other, row) for other in range(len(rung.numbers)))
    }
    assert best <= set(rung.promotable(rung.numbers, 3, last=True))


def test_the_highest_rung_is_asked_first() -> None:
    def rung(*numbers: int) -> Rung:
        count = len(numbers)
        losses = np.arange(2 * count, dtype=float).reshape(count, 2)
        return Rung(np.array(numbers), losses, np.zeros(count))

    def promoted(*numbers: range, last: bool = False) -> int | None:
        return promotion([rung(*n) for n in numbers], numbers, 3, last)

    assert promoted(range(6), range(7, 9)) == 0
    assert promoted(range(6), range(7, 10)) == 7
    assert promoted(range(2), range(7, 9)) is None
    assert promoted(range(2), range(7, 9), last=True) == 7


def test_the_ends_of_a_front_come_before_its_middle() -> None:
    losses = np.array([[1.0, 1.1], [0.0, 2.0], [2.0, 0.0], [3.0, 3.0]])
    assert best_first(losses, np.zeros(4), np.arange(4)) == [1, 2, 0, 3]


def test_crowding_distance_by_hand() -> None:
    distance = crowding_distance(np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]]), np.zeros(4))
    np.testing.assert_allclose(distance, [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_each_front_has_distances_of_its_own(seed: int, objectives: int) -> None:
    generator = np.random.default_rng(seed)
    losses, rank = generator.integers(0, 6, (40, objectives)).astype(float), generator.integers(0, 4, 40).astype(float)
    together = crowding_distance(losses, rank)
    for front in np.unique(rank):
        alone = crowding_distance(losses[rank == front], np.zeros(int((rank == front).sum())))
        np.testing.assert_array_equal(together[rank == front], alone)


def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch() -> None:
    assert Halving(first_rung=1, factor=3).rungs(10) == (1, 3, 9)
    assert Halving(first_rung=1, factor=3).rungs(9) == (1, 3)
    assert Halving(first_rung=4).rungs(4) == ()
    assert Halving().rungs(9) == (1, 3)
    assert Halving().rungs(98) == (4, 12, 36)


def test_limits_measure_their_excess() -> None:
    limits = {"max_params": 100, "min_throughput": 50}
    assert excess({"params": 120, "macs": 7}, limits) == {"max_params": 0.19999999999999996}
    assert excess({"params": 100, "throughput": 25}, limits) == {"max_params": 0.0, "min_throughput": 0.5}
