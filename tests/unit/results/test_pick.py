"""The pick: limits, rules and ties, on tables small enough to pick by eye."""

import moocore
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.choice import Rule, choose, keeps

COLUMNS = ["outcome", "accuracy", "throughput", "latency", "macs", "params"]
BOTH = (["accuracy", "throughput"], [True, True])


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Trials numbered from 10 on: outcome, accuracy, throughput, latency, macs, params."""
    return pd.DataFrame(list(rows), columns=COLUMNS, index=range(10, 10 + len(rows)))


TRIALS = table(
    ("complete", 90.0, 100.0, 10.0, 50, 5),
    ("complete", 80.0, 300.0, 4.0, 30, 3),
    ("complete", 86.0, 250.0, 5.0, 40, 4),
    ("stopped", 99.0, 999.0, 1.0, 1, 1),
)


@pytest.mark.parametrize(("rule", "number"), [("max-accuracy", 10), ("max-throughput", 11), ("knee", 12)])
def test_each_rule_picks_its_best_complete_trial(rule: str, number: int) -> None:
    # Scaled to the front, the knee is 0.6 + 0.75, the two others are 1.
    assert choose(TRIALS, Rule(rule), *BOTH) == number


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, [10, 11, 12, 13]),
        ({"max_params": 4}, [11, 12, 13]),
        ({"max_macs": 40, "min_accuracy": 86}, [12, 13]),
        ({"min_throughput": 250}, [11, 12, 13]),
        ({"max_latency": 4.9}, [11, 13]),
        ({"max_params": 0}, []),
    ],
)
def test_a_limit_keeps_what_equals_it(limits: dict[str, float], kept: list[int]) -> None:
    assert list(TRIALS[keeps(TRIALS, limits)].index) == kept


def test_an_unknown_value_keeps_no_limit_on_it() -> None:
    trials = TRIALS.assign(throughput=[np.nan, 300.0, 250.0, 999.0], params=pd.array([5, None, 4, 1], "Int64"))
    assert list(keeps(trials, {"min_throughput": 0})) == [False, True, True, True]
    assert list(keeps(trials, {"max_params": 100})) == [True, False, True, True]
    assert keeps(trials, {}).all()


def test_ties_of_accuracy_go_to_the_faster_then_to_the_smaller_then_to_the_first() -> None:
    rows = [("complete", 90.0, speed, 1.0, 1, params) for speed, params in [(None, 1), (5, 9), (7, 9), (7, 8), (7, 8)]]
    assert choose(table(*rows), Rule.max_accuracy, *BOTH) == 13


def test_ties_of_throughput_go_to_the_more_accurate() -> None:
    trials = table(("complete", 80.0, 5.0, 1.0, 1, 1), ("complete", 90.0, 5.0, 1.0, 1, 9))
    assert choose(trials, Rule.max_throughput, *BOTH) == 11


def test_ties_of_the_knee_go_to_the_more_accurate() -> None:
    trials = table(("complete", 80.0, 5.0, 1.0, 1, 1), ("complete", 90.0, 3.0, 1.0, 1, 9))
    assert choose(trials, Rule.knee, *BOTH) == 11


def test_what_is_dominated_neither_scales_nor_is_the_knee() -> None:
    # Scaled from this one's 10 % and 90 img/s, the sums would be 1.05, 1.88 and 1.71.
    slow = ("complete", 10.0, 90.0, 9.0, 99, 9)
    assert choose(pd.concat([TRIALS, table(slow).rename({10: 20})]), Rule.knee, *BOTH) == 12


def test_less_is_better_where_the_study_minimises() -> None:
    trials = table(
        ("complete", 90.0, 1.0, 9.0, 1, 100), ("complete", 89.0, 1.0, 2.0, 1, 30), ("complete", 50.0, 1.0, 1.0, 1, 20)
    )
    assert choose(trials, Rule.knee, ["accuracy", "latency", "params"], [True, False, False]) == 11


def test_a_trial_without_an_objective_is_not_the_knee() -> None:
    assert choose(TRIALS.assign(throughput=[100.0, 300.0, np.nan, 1.0]), Rule.knee, *BOTH) == 10


def test_limits_that_no_trial_keeps_and_values_that_none_has_are_errors() -> None:
    with pytest.raises(ValueError, match="no complete trial keeps these limits"):
        choose(TRIALS[TRIALS["outcome"] == "stopped"], Rule.max_accuracy, *BOTH)
    with pytest.raises(ValueError, match="max-throughput needs throughput, which no complete trial has"):
        choose(TRIALS.assign(throughput=np.nan), Rule.max_throughput, *BOTH)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30),
    st.sampled_from(list(Rule)),
    st.booleans(),
)
def test_every_pick_is_on_the_front_of_what_it_is_chosen_from(
    points: list[tuple[int, int]], rule: Rule, latency: bool
) -> None:
    trials = table(*[("complete", float(a), float(b), float(20 - b), 1, 1) for a, b in points])
    objectives, maximise = (["accuracy", "latency"], [True, False]) if latency else BOTH
    number = choose(trials, rule, objectives, maximise)
    best = moocore.is_nondominated(trials[objectives].to_numpy(float), maximise=maximise, keep_weakly=True)
    assert number in trials.index[best]
