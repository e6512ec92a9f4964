"""The figure for papers, and what is shown of a trial."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from results.figures import COLUMN, front_figure, write
from results.front import front
from results.points import points, quantities
from results.statistics import accuracy_interval
from tests.made_runs import IMAGES, made_run

RUN = made_run(["complete"] * 12 + ["stopped"] * 6 + ["running", "failed"])


def test_stopped_trials_show_their_last_accuracy_without_an_interval() -> None:
    shown = points(RUN)
    assert list(shown.index) == list(range(19))
    stopped = shown.loc[12:17]
    last = RUN.epochs[RUN.epochs["trial"] == 12]["accuracy"].iloc[-1]
    assert stopped.loc[12, "accuracy"] == last
    assert stopped[["low", "high"]].isna().all(axis=None)
    first = shown.loc[0]
    assert (first["low"], first["high"]) == accuracy_interval(first["accuracy"], IMAGES)


def test_mean_iou_is_named_and_has_no_interval() -> None:
    run = made_run(["complete"] * 3, data={"name": "cityscapes"})
    assert points(run)["low"].isna().all()
    assert quantities(run)["accuracy"].axis == "mIoU (%)"


def test_an_accuracy_on_unknown_images_has_no_interval() -> None:
    run = made_run(["complete"] * 3)
    run.trials["images"] = run.trials["images"].mask(run.trials.index == 1)
    assert list(points(run)["low"].isna()) == [False, True, False]


def test_quantities_without_any_value_are_left_out() -> None:
    run = made_run(["complete"] * 3)
    run.trials[["throughput", "latency", "relative"]] = np.nan
    assert list(quantities(run)) == ["accuracy", "macs", "params", "seconds"]


@pytest.mark.parametrize("other", ["throughput", "latency", "macs", "params"])
def test_axes_have_names_and_units_and_the_front_is_marked(other: str) -> None:
    run = made_run(["complete"] * 12 + ["stopped"] * 3, (other, "accuracy"), limits={"max_latency": 1e6})
    figure = front_figure(run)
    axes = figure.axes[0]
    assert axes.get_xlabel() == quantities(run)[other].axis
    assert axes.get_ylabel() == "accuracy (%)"
    assert figure.get_figwidth() == COLUMN
    drawn = {c.get_label(): c.lines[0] for c in axes.containers}
    assert set(drawn) == {"stopped early, last accuracy", "at full budget", "front"}
    assert len(drawn["front"].get_xdata()) == len(front(run))
    assert len({line.get_marker() for line in drawn.values()}) == 3


def test_text_stays_text_in_vector_files(tmp_path: Path) -> None:
    for ending in ("pdf", "svg", "png"):
        write(RUN, tmp_path / f"front.{ending}")
    assert "throughput (img/s)</text>" in (tmp_path / "front.svg").read_text()
    assert b"/FontFile2" in (tmp_path / "front.pdf").read_bytes()  # TrueType
    with Image.open(tmp_path / "front.png") as image:
        assert image.width == round(300 * COLUMN)
    assert len(list(tmp_path.iterdir())) == 3


def test_another_ending_and_a_run_without_results_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"front\.gif must end in \.pdf, \.svg or \.png\."):
        write(RUN, tmp_path / "front.gif")
    with pytest.raises(ValueError, match="no trial of made has an accuracy and throughput yet"):
        front_figure(made_run(["failed", "infeasible"]))
