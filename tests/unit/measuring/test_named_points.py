"""Measurement points in a study: how they are written, and what names a quantity at one of them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from record.files import checked
from record.measure import Measurement, Point
from record.run import Run
from record.same import measures_alike, plain
from record.study import Search, Study, StudyError, study_of
from record.trial import Final, State, Trial

NAMED = {"served": {"batch": 1, "runtime": "onnx"}, "bulk": {"batch": 64}}
SPEED = Measurement(100.0, 90.0, 110.0, 10, 4, "float32", "cpu", 1)


def made(**values: Any) -> Study:
    return checked({"name": "s", **values})


names = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda n: n not in Point.model_fields)
points = st.fixed_dictionaries(
    {},
    optional={
        "batch": st.integers(1, 512),
        "threads": st.integers(1, 8),
        "seconds": st.floats(0.01, 10),
        "runtime": st.sampled_from(["auto", "torch", "torch-compiled"]),
        "dtype": st.sampled_from(["float32", "bfloat16"]),
        "channels_last": st.booleans(),
        "also": st.sets(st.sampled_from(["latency_p99", "size", "energy"])).map(sorted),
    },
)


@settings(deadline=None)
@given(points | st.dictionaries(names, points, min_size=1, max_size=3))
def test_points_are_read_as_they_are_written(measure: dict[str, Any]) -> None:
    study = made(measure=measure)
    written = json.loads(json.dumps(plain(study)))
    assert study_of(written) == study
    assert list(study.measure) == (
        list(measure) if measure and isinstance(next(iter(measure.values())), dict) else ["default"]
    )


def test_a_single_point_is_written_without_a_name_and_keys_beside_points_are_shared() -> None:
    assert plain(made(measure={"batch": 8}))["measure"]["batch"] == 8
    study = made(measure={"threads": 2, "seconds": 0.1, **NAMED, "bulk": {"threads": 1}})
    assert [(p.threads, p.seconds) for p in study.measure.values()] == [(2, 0.1), (1, 0.1)]
    assert Search(name="s", measure=Point(batch=3)).measure["default"].batch == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("older", "runtime"),
    [
        ({"compiled": False, "graph": True}, "auto"),
        ({"compiled": True, "graph": True}, "torch-compiled"),
        ({"graph": False}, "torch"),
    ],
)
def test_the_switches_of_older_studies_are_runtimes(older: dict[str, bool], runtime: str) -> None:
    assert made(measure={"batch": 8, **older}).measure["default"].runtime == runtime


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"measure": {"dtype": "int8"}}, "dtype=int8 is for the runtimes onnx"),
        ({"measure": {"runtime": "onnx", "dtype": "bfloat16"}}, "onnx takes float32 or int8"),
        ({"measure": {"runtime": "onnx", "tf32": True}}, "tf32=true is for PyTorch's runtimes"),
        ({"measure": {"runtime": "torchscript"}}, "must be one of auto, torch, torch-compiled, cuda-graph, onnx"),
        ({"measure": {"runtime": "record.run:Run"}}, "record.run:Run lacks prepared, which a runtime has"),
        ({"measure": {"runtime": "command"}}, "command and runtime=command go together"),
        ({"measure": {"command": "ls"}}, "command and runtime=command go together"),
        ({"measure": {"device": "phone"}}, "other targets are for runtime=command"),
        ({"measure": {"device": "cuda"}}, "needs a GPU a trial"),
        ({"measure": {"compiled": True, "runtime": "torch"}}, "older words for runtime"),
        ({"measure": {"compiled": 3}}, "should be true or false"),
        ({"measure": {"also": ["macs"]}}, "also=macs is not measured"),
        ({"measure": {"also": ["accuracy"]}}, "also=accuracy is not measured"),
        ({"measure": {"a b": {"batch": 1}}}, "a point cannot be called 'a b'"),
        ({"measure": {"one": {"batch": 1}, "two": 3}}, "measure.two=3: should be a mapping"),
        ({"measure": {"one": {"bach": 1}}}, "unknown key measure.one.bach; did you mean batch?"),
        ({"measure": {"bach": 1}}, "unknown key measure.bach; did you mean batch?"),
        ({"measure": 3}, "measure"),
        ({"objectives": ["accuracy", "throughput.fast"]}, "throughput.fast is not there"),
        ({"objectives": ["accuracy", "macs.default"]}, "macs has no measurement point"),
        ({"measure": NAMED, "objectives": ["accuracy", "throughput", "throughput.served"]}, "name one quantity twice"),
        ({"measure": NAMED, "objectives": ["accuracy", "latency_p99"]}, "needs limits.max_latency_p99.served"),
        ({"objectives": ["accuracy", "energy"]}, "needs limits.max_energy"),
        ({"limits": {"max_latency.bulk": 3}}, "limits.max_latency.bulk is not there"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as error:
        made(**values)
    assert message in str(error.value)


def test_without_a_point_the_first_is_meant_in_objectives_and_limits() -> None:
    for bare, dotted in (("", ".served"), (".served", "")):
        study = made(
            measure=NAMED,
            objectives=["accuracy", f"throughput{bare}"],
            limits={f"max_latency{dotted}": 5.0, "max_params": 9e6, "min_throughput": {"bulk": 7}},
        )
        assert [q.name for q in study.quantities] == ["accuracy", "throughput.served"]
        assert study.bounds == {"max_latency.served": 5.0, "max_params": 9e6, "min_throughput.bulk": 7}
        assert set(study.needed) == {"served", "bulk"}
        assert set(study.confirmed) == {"served"}


def test_points_that_nothing_names_are_left_to_the_front_but_for_the_first_or_where_networks_are_listed() -> None:
    third = {**NAMED, "phone": {"batch": 2, "also": ["size"]}}
    study = made(measure=third, objectives=["accuracy", "throughput.bulk"])
    assert set(study.needed) == {"served", "bulk"}
    assert set(study.points) == {"served", "bulk", "phone"}
    assert [q.name for q in study.extra] == ["throughput.bulk", "size.phone"]
    assert set(made(measure=third, seeds=3, space={"name": "fixed"}).needed) == set(third)


def test_points_have_definite_devices_and_runtimes_and_all_that_is_asked() -> None:
    study = made(measure=NAMED, objectives=["accuracy", "size.served"], limits={"max_size": 1e6, "max_energy.bulk": 1})
    assert {n: (p.runtime, p.device, p.also) for n, p in study.points.items()} == {
        "served": ("onnx", "cpu", ("size",)),
        "bulk": ("torch", "cpu", ("energy",)),
    }
    gpu = made(measure=NAMED, resources={"gpus": 1})
    assert [(p.runtime, p.device) for p in gpu.points.values()] == [("onnx", "cpu"), ("cuda-graph", "cuda")]


def test_a_trial_has_the_quantities_of_each_point_and_the_frame_those_of_the_first_without_its_name() -> None:
    study = made(measure=NAMED, objectives=["accuracy", "throughput.bulk"], limits={"max_latency.served": 90})
    trial = Trial(
        0,
        config={"kind": "x"},
        costs={"params": 3, "macs": 4},
        measured={"served": SPEED, "bulk": replace(SPEED, median=200.0)},
        confirmed={"bulk": replace(SPEED, median=300.0, others={"size": 7.0})},
        final=Final(50.0),
        state=State.complete,
    )
    assert study.costs(trial) == {"params": 3, "macs": 4, "throughput.bulk": 300.0, "latency.served": 40.0}
    row = Run(study, [trial]).trials.loc[0]
    assert (row["throughput"], row["throughput.served"], row["throughput.bulk"]) == (100.0, 100.0, 300.0)
    assert row["size.bulk"] == 7.0
    assert row["latency"] == row["latency.served"] == 40.0
    alone = made(measure={"batch": 4})
    assert "throughput.default" not in Run(alone, []).trials


def test_measurements_are_taken_over_where_all_that_is_needed_was_measured_alike() -> None:
    several, one = made(measure=NAMED), made(measure={"served": NAMED["served"]})
    assert measures_alike(several, one)
    assert measures_alike(several, made(measure={"served": {**NAMED["served"], "seconds": 9, "also": ["size"]}}))
    assert not measures_alike(several, made(measure={"served": {"batch": 2, "runtime": "onnx"}}))
    both = made(measure=NAMED, objectives=["accuracy", "throughput.bulk"])
    assert not measures_alike(one, both)
