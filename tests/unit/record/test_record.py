"""What is stored of a trial and of a study, and what two studies have to do with each other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from record.files import checked
from record.measure import Measurement
from record.quantities import QUANTITIES, excess, limits
from record.run import trials_in
from record.same import changes_nothing, differences, measures_alike, plain, trains_alike
from record.stored import FORMAT, study_values
from record.study import Comparison, Search, study_of
from record.trial import FOLLOWING, MEASUREMENTS, PLAIN, EpochResult, Final, State, Trial, restored, stored

numbers = st.floats(0.1, 1e6)
speeds = st.builds(
    Measurement,
    median=numbers,
    p10=numbers,
    p90=numbers,
    samples=st.integers(1, 99),
    batch=st.integers(1, 256),
    dtype=st.just("float32"),
    device=st.sampled_from(["cpu", "NVIDIA H100"]),
    threads=st.just(1),
    host_bound=st.none() | st.booleans(),
    relative=st.none() | numbers,
    latency_p50=st.none() | numbers,
    others=st.dictionaries(st.sampled_from(["size", "energy", "energy_low"]), numbers),
    clocks=st.dictionaries(st.sampled_from(["sm_mhz", "throttle"]), st.integers(0, 2000)),
)
at_points = st.dictionaries(st.sampled_from(["default", "served", "bulk"]), speeds, max_size=3)
finals = st.builds(
    Final,
    accuracy=st.floats(0, 100),
    conversion_error=st.floats(0, 1e-5),
    details=st.dictionaries(st.text(max_size=5), st.floats(0, 100), max_size=2),
    images=st.none() | st.integers(1, 10_000),
    test=st.none() | st.fixed_dictionaries({"accuracy": st.floats(0, 100)}),
)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    epochs = draw(st.integers(0, 5))
    return Trial(
        number=0,
        params=draw(st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=5), max_size=3)),
        config={"kind": "x", "width": draw(st.integers(1, 9))},
        training_id=draw(st.text(min_size=1, max_size=16)),
        deploy_id=draw(st.text(min_size=1, max_size=16)),
        costs=draw(st.dictionaries(st.sampled_from(["params", "macs", "bytes"]), numbers)),
        seed=draw(st.integers(0, 99)),
        granted=epochs,
        state=draw(st.sampled_from([s for s in State if not s.open])),
        reason=draw(st.text(max_size=20)),
        twin=draw(st.none() | st.integers(0, 99)),
        retried=draw(st.booleans()),
        note=draw(st.text(max_size=20)),
        origin=draw(st.text(max_size=20)),
        measured=draw(at_points),
        confirmed=draw(at_points),
        curve=[EpochResult(e, draw(numbers), draw(numbers), draw(numbers)) for e in range(1, epochs + 1)],
        final=draw(st.none() | finals),
    )


def attributes_of(trial: Trial) -> dict[str, Any]:
    """Everything of a trial in storage, an epoch at a time as the journal writes it."""
    measured = [f"{name}.{point}" for name in MEASUREMENTS for point in getattr(trial, name)]
    found = stored(trial, [*PLAIN, "state", *measured, *(["final"] if trial.final else [])])
    for length in range(1, len(trial.curve) + 1):
        found |= stored(replace(trial, curve=trial.curve[:length]), ["curve"])
    return found


def frozen(state: TrialState, attributes: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
    made = create_trial(state=state, values=[1.0, 1.0] if state is TrialState.COMPLETE else None)
    made.number, made.user_attrs = 0, dict(attributes)
    return made


@given(trials())
@settings(deadline=None)
def test_a_trial_comes_back_from_storage_as_it_went(trial: Trial) -> None:
    attributes = json.loads(json.dumps(attributes_of(trial)))
    made = frozen(TrialState.PRUNED, attributes)
    back = restored(made, attributes, epochs=9)
    assert back == replace(trial, start=made.datetime_start, end=made.datetime_complete)


@pytest.mark.parametrize(
    ("granted", "done", "final", "state"),
    [
        (0, 0, None, State.running),
        (2, 1, None, State.running),
        (2, 2, None, State.paused),
        (4, 4, None, State.running),
        (4, 4, Final(50.0), State.confirming),
    ],
)
def test_the_state_of_an_open_trial_follows_from_what_is_recorded(
    granted: int, done: int, final: Final | None, state: State
) -> None:
    curve = [EpochResult(e, 10.0, 1.0, 1.0) for e in range(1, done + 1)]
    trial = Trial(0, config={"kind": "x"}, granted=granted, curve=curve, final=final)
    attributes = {name: value for name, value in attributes_of(trial).items() if name != "outcome"}
    assert restored(frozen(TrialState.RUNNING, attributes), attributes, epochs=4).state is state


def test_nothing_follows_the_end_of_a_trial_and_everything_else_can_end() -> None:
    assert set(FOLLOWING) == set(State)
    ends = {state for state in State if not FOLLOWING[state]}
    assert ends == {s for s in State if not s.open} == set(State) - {State.running, State.paused, State.confirming}
    for state in set(State) - ends:
        reached, new = {state}, {state}
        while new:
            new = {after for before in new for after in FOLLOWING[before]} - reached
            reached |= new
        assert reached & ends


def test_every_quantity_has_a_limit_and_a_place_in_a_trial() -> None:
    speed = Measurement(100.0, 90.0, 110.0, 10, 4, "float32", "cpu", 1, relative=0.5, others={"size": 5e6})
    final = Final(80.0)
    curve = [EpochResult(1, 1, 1, 3.0)]
    trial = Trial(0, costs={"params": 7, "macs": 9}, measured={"default": speed}, curve=curve, final=final)
    assert {name: q.value(trial) for name, q in QUANTITIES.items()} == {
        "accuracy": 80.0,
        "accuracy_int8": None,
        "throughput": 100.0,
        "latency": 40.0,
        "latency_p99": None,
        "relative": 0.5,
        "peak_memory": None,
        "size": 5e6,
        "energy": None,
        "macs": 9,
        "params": 7,
        "seconds": 3.0,
    }
    least = {"latency", "latency_p99", "peak_memory", "size", "energy", "macs", "params"}
    most = {"accuracy", "accuracy_int8", "throughput"}
    assert set(limits()) == {*(f"min_{name}" for name in most), *(f"max_{name}" for name in least)}
    assert {q.value(Trial(0)) for q in QUANTITIES.values() if q.name != "seconds"} == {None}
    study = made(objectives=["accuracy", "throughput"], limits={"max_latency": 50})
    assert study.costs(trial) == {"params": 7, "macs": 9, "throughput": 100.0, "latency": 40.0}
    assert excess(study.costs(trial), {"max_params": 14, "min_throughput": 200}) == {
        "max_params": -0.5,
        "min_throughput": 0.5,
    }


def test_a_second_measurement_of_an_older_run_counts_for_all_with_the_same_converted_form() -> None:
    study = optuna.create_study(directions=["maximize"] * 2)
    first = Measurement(100.0, 90.0, 110.0, 10, 4, "float32", "cpu", 1)
    for number in range(2):
        trial = Trial(number, config={"kind": "x"}, deploy_id="d", measured={"default": first}, final=Final(50.0))
        study.add_trial(create_trial(values=[50.0, 1.0], user_attrs=attributes_of(trial)))
    study.set_user_attr("confirmed 1", asdict(replace(first, median=120.0)))
    found = trials_in(study, Search(name="s"))
    assert [t.measurement().median for t in found] == [120.0, 120.0]
    assert [t.measured["default"].median for t in found] == [100.0, 100.0]


GPU = {"resources": {"gpus": 1}}


def made(**changes: Any) -> Search:
    study = study_of({"name": "s", "training": {"precision": "float32"}, **changes})
    assert isinstance(study, Search)
    return study


def test_a_study_is_stored_whole_and_read_back_equal() -> None:
    study = made(
        trials=7, halving={"factor": 4}, data={"name": "cifar10", "root": "there"}, limits={"max_macs": 9}, **GPU
    )
    assert study_of(json.loads(json.dumps(plain(study)))) == study
    listed = Comparison(name="c", space={"name": "fixed"}, seeds=5)
    assert study_of(json.loads(json.dumps(plain(listed)))) == listed


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 99},
        {"runs": "elsewhere"},
        {"storage": "sqlite:///other.db"},
        {"resources": {"concurrent": 9, "cpus": 2}},
        {"data": {"name": "cifar10", "root": "moved"}},
        {"data": {"name": "cifar10", "root": "here", "download": True}},
    ],
)
def test_budget_place_and_resources_may_change_as_a_study_goes_on(changes: dict[str, Any]) -> None:
    before = made(data={"name": "cifar10", "root": "here"})
    after = made(**{"data": {"name": "cifar10", "root": "here"}, **changes})
    assert before != after
    assert changes_nothing(before, after)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"training": {"precision": "float32", "epochs": 3}}, "training.epochs is 9 there and 3 here"),
        ({"data": {"name": "cifar10", "pad": 4}}, "data.pad is 2 there and 4 here"),
        ({"halving": None}, "scheduler.name is 'halving' there and 'full' here"),
        ({"limits": {"max_params": 5}}, "limits.max_params is None there and 5.0 here"),
    ],
)
def test_what_defines_a_study_may_not(changes: dict[str, Any], said: str) -> None:
    before = made(data={"name": "cifar10"})
    assert said in differences(before, made(**{"data": {"name": "cifar10"}, **changes}))


def test_results_are_comparable_where_training_and_speed_are() -> None:
    cpu, gpu = made(), made(**GPU)
    assert trains_alike(cpu, gpu)
    assert not measures_alike(cpu, gpu)
    assert measures_alike(gpu, made(trials=5, **GPU))
    assert not trains_alike(cpu, made(training={"precision": "bfloat16"}))
    assert trains_alike(made(data={"name": "cifar10", "root": "a"}), made(data={"name": "cifar10", "root": "b"}))
    assert cpu.times
    assert not made(objectives=("accuracy", "params")).times
    assert made(objectives=("accuracy", "params"), limits={"min_throughput": 5}).times


def test_what_older_formats_leave_out_is_taken_from_the_trials() -> None:
    study = {
        "name": "s",
        "training": {},
        "space": {"name": "fixed"},
        "seeds": 1,
        "test": True,
        "trials": 20,
        "data": {},
    }
    trial = {"config": {"kind": "x"}, "throughput": {"device": "NVIDIA A100"}}
    found = [frozen(TrialState.PRUNED, {**trial, "seed": seed}) for seed in (0, 0, 1, 2)]
    values = study_values({"study": study}, found)
    assert (values["seeds"], values["resources"], "trials" in values) == (3, {"gpus": 1}, False)
    assert study_of(values).resources.device == "cuda"
    today = plain(made())
    assert study_values({"study": today, "format": FORMAT}, found) == today


def test_keys_of_the_other_kind_of_study_say_so() -> None:
    with pytest.raises(ValueError, match="unknown key test; it is for a comparison, which has seeds"):
        checked({"name": "s", "test": False})


def test_an_object_that_is_no_space_is_refused() -> None:
    with pytest.raises(ValueError, match="object lacks suggest, which a space has"):
        Search(name="s", space=object())
