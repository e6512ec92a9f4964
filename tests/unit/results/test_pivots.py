"""Parameters, importance and pivots, on tables small enough to work out by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.run import Run
from repmlp.networks import config_to_dict
from repmlp.networks.pspnet import PSPNet
from repmlp.networks.resnet import resnet
from results.importance import importance
from results.parameters import NOT_ASKED, asked
from results.pivots import holders, pivot, placement
from spaces.catalogue import SPACES
from spaces.choices import Plainest
from tests.frames import run_with
from tests.made_runs import made_run


def run_of(trials: dict[str, list[Any]], objectives: tuple[str, ...] = ("accuracy", "throughput")) -> Run:
    return run_with(pd.DataFrame(trials).rename_axis("trial"), objectives=objectives, name="hand")


HAND = run_of(
    {
        "outcome": ["complete"] * 5 + ["stopped"],
        "accuracy": [90.0, 91.0, 80.0, 70.0, 60.0, np.nan],
        "throughput": [10.0, 30.0, 20.0, np.nan, 5.0, 99.0],
        "param.a": [1, 1, 2, np.nan, np.nan, 1],
        "param.b": [4.0, 4.0, 16.0, np.nan, 8.0, 8.0],
        "param.kernels": ["(3,)", "()", "()", "()", "(3,)", "(3,)"],
        "config": [
            {"kind": "cifar", "stages": [{"channels": 8, "block": {"kind": kind}} for kind in (a, b)]}
            for a, b in [
                ("repmlp", "conv"),
                ("repmlp", "conv"),
                ("conv", "conv"),
                ("repmlp", "repmlp"),
                ("conv", "conv"),
            ]
        ]
        + [None],
    }
)


def test_numbers_of_parameters_are_whole_and_what_was_not_asked_is_said() -> None:
    given = asked(HAND)
    assert list(given) == ["a", "b", "kernels"]
    assert list(given["a"]) == [1, 1, 2, NOT_ASKED, NOT_ASKED, 1]
    assert list(given["b"]) == [4, 4, 16, NOT_ASKED, 8, 8]
    assert all(isinstance(v, int | str) for v in given["b"])


def test_a_pivot_has_the_mean_and_the_number_of_complete_trials_in_each_cell() -> None:
    table = pivot(HAND, "a", "b")
    assert list(table.index) == [1, 2, NOT_ASKED]
    assert list(table.columns) == [4, 8, 16, NOT_ASKED]
    assert table.to_numpy().tolist() == [
        ["90.50 (2)", "", "", ""],
        ["", "", "80.00 (1)", ""],
        ["", "60.00 (1)", "", "70.00 (1)"],
    ]


def test_a_pivot_of_what_is_missing_counts_what_is_there() -> None:
    assert pivot(HAND, "a", "kernels", "throughput").loc[NOT_ASKED, "(3,)"] == "5.00 (1)"
    assert pivot(HAND, "kernels", "a", "throughput").loc["()", NOT_ASKED] == ""


def test_a_parameter_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"^c is not a parameter of hand; it has a, b, kernels\.$"):
        pivot(HAND, "a", "c")


def test_placements_are_the_stages_with_repmlp_and_the_best_mean_comes_first() -> None:
    table = placement(HAND)
    assert table["RepMLP in"].iloc[0] == "stage 1"
    rows = {r[0]: r[1:] for r in table.itertuples(index=False)}
    assert rows["stage 1"] == (2, 90.5, 91.0, 20.0)
    assert rows["none"] == (2, 70.0, 80.0, 12)
    assert rows["stage 1 + stage 2"][:3] == (1, 70.0, 70.0)
    assert rows["stage 1 + stage 2"][3] is pd.NA


def test_the_stages_of_a_resnet_go_by_the_papers_names() -> None:
    stage = {"kind": "bottleneck", "repmlp": {"partition": 4, "kernels": [1]}}
    config = resnet(50, {"c3": stage, "c4": stage}, size=64, width=0.25)
    assert holders(config_to_dict(config)) == "c3 + c4"
    assert holders(config_to_dict(PSPNet(backbone=replace(config, head="none")))) == "c3 + c4"


@pytest.mark.parametrize("name", [name for name in SPACES if name != "ablation"])
def test_every_space_says_where_repmlp_goes(name: str) -> None:
    space = SPACES[name]()
    config = config_to_dict(space.suggest(Plainest(), *space.images))
    assert holders(config) == ("all stages" if name == "repmlpnet" else "none")


def test_what_decides_an_objective_has_the_largest_share_of_it() -> None:
    rng = np.random.default_rng(0)
    width, depth, idle = (rng.integers(1, 4, 60) for _ in range(3))
    run = run_of(
        {
            "outcome": ["complete"] * 60,
            "accuracy": (50 + 10 * width + rng.normal(0, 0.1, 60)).tolist(),
            "params": (1000 * depth + rng.integers(0, 9, 60)).tolist(),
            "param.width": width.tolist(),
            "param.depth": np.where(depth == 2, np.nan, depth).tolist(),  # asked of some alone
            "param.idle": idle.tolist(),
        },
        ("accuracy", "params"),
    )
    shares = importance(run).set_index("parameter")
    assert shares.index[0] == "width"
    assert shares["accuracy"].idxmax() == "width"
    assert shares["params"].idxmax() == "depth"
    np.testing.assert_allclose(shares.sum(), 1)
    assert shares.loc["width", "accuracy"] > 0.6
    assert shares.loc["depth", "params"] > 0.6


def test_less_is_good_where_the_study_minimises() -> None:
    # One value of a is alone in the smallest networks, the other ones share the largest.
    values = {"outcome": ["complete"] * 40, "accuracy": [50.0] * 40, "param.a": [1] * 5 + [2, 3, 4, 5, 6] * 7}
    few = run_of(values | {"params": list(range(40)), "param.b": [1, 2] * 20}, ("accuracy", "params"))
    many = run_of(values | {"params": list(range(40, 0, -1)), "param.b": [1, 2] * 20}, ("accuracy", "params"))
    share = [importance(run).set_index("parameter").loc["a", "params"] for run in (few, many)]
    assert share[0] > 0.9
    assert share[0] > share[1]


def test_too_few_complete_trials_have_no_importance() -> None:
    assert importance(made_run(["complete"] * 7 + ["stopped"] * 9)).empty
    assert len(importance(made_run(["complete"] * 8))) > 5


def test_a_missing_objective_is_left_out_of_its_importance() -> None:
    run = made_run(["complete"] * 20)
    run.trials.loc[[3, 4], "throughput"] = np.nan
    assert importance(run)["throughput"].sum() == pytest.approx(1)
    run.trials["throughput"] = np.nan
    assert importance(run)["throughput"].eq(0).all()
