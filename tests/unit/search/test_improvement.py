import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.samplers.improvement import expected_hypervolume_improvement, expected_improvement

REFERENCE = (10.0, np.array([8.0, 9.0, 7.0]))


def front_of(generator: np.random.Generator, count: int, costs: int) -> tuple[np.ndarray, np.ndarray]:
    return generator.uniform(5, 90, count), generator.uniform(0, 10, (count, costs))


def hypervolume(accuracy: np.ndarray, costs: np.ndarray) -> float:
    points = np.column_stack([-accuracy, costs])
    return float(moocore.hypervolume(points, ref=[-REFERENCE[0], *REFERENCE[1][: costs.shape[1]]]))


@given(st.integers(0, 10**6), st.integers(0, 8), st.integers(1, 3))
def test_without_uncertainty_it_is_the_hypervolume_that_is_added(seed: int, count: int, costs: int) -> None:
    generator = np.random.default_rng(seed)
    front, front_costs = front_of(generator, count, costs)
    mean, candidates = front_of(generator, 4, costs)
    reference = REFERENCE[0], REFERENCE[1][:costs]
    found = expected_hypervolume_improvement(mean, np.full(4, 1e-9), candidates, front, front_costs, reference)
    before = hypervolume(front, front_costs) if count else 0.0
    for i in range(4):
        after = hypervolume(np.append(front, mean[i]), np.vstack([front_costs, candidates[i : i + 1]]))
        assert found[i] == pytest.approx(after - before, abs=1e-6)


@pytest.mark.parametrize("costs", [1, 2])
def test_it_is_the_mean_over_accuracies(costs: int) -> None:
    generator = np.random.default_rng(1)
    front, front_costs = front_of(generator, 6, costs)
    candidate, reference = np.full((1, costs), 2.0), (REFERENCE[0], REFERENCE[1][:costs])
    found = expected_hypervolume_improvement(
        np.array([60.0]), np.array([12.0]), candidate, front, front_costs, reference
    )
    before = hypervolume(front, front_costs)
    drawn = generator.normal(60, 12, 20_000)
    added = [hypervolume(np.append(front, y), np.vstack([front_costs, candidate])) - before for y in drawn]
    assert found[0] == pytest.approx(np.mean(added), abs=4 * np.std(added) / len(added) ** 0.5)


def test_expected_improvement_by_hand() -> None:
    found = expected_improvement(np.array([0.0, 5.0]), np.array([1.0, 1e-9]), np.array([0.0, 2.0]))
    np.testing.assert_allclose(found, [1 / (2 * np.pi) ** 0.5, 3.0])
