"""What a checkpoint holds beyond the record, whose it is, and what becomes of one that is of no use."""

import re
import resource
import shutil
from itertools import count
from pathlib import Path

import pytest
import torch

from record.trial import EpochResult, Trial
from search.candidate import Candidate, Job
from search.engine import Engine
from search.training.checkpoints import CheckpointError, checkpoint_path, read, write
from tests.driving import driven, engine_of, work_off

ONE = ("trials=1", "halving={first_rung: 1, factor: 2}")


def curve(trial: Trial) -> list[tuple[int, float, float]]:
    return [(r.epoch, r.accuracy, r.loss) for r in trial.curve]


@pytest.mark.parametrize("told", range(1, 5))
def test_what_was_trained_and_not_recorded_is_reported_first(tiny: Path, tmp_path: Path, told: int) -> None:
    """The driver is gone after the checkpoint and before the record: no epoch is missing, and no rung is passed by."""
    counted = count()
    work_off(engine_of(tiny, *ONE), until=lambda *_: next(counted) == told)
    resumed = engine_of(tiny, *ONE)
    tasks = work_off(resumed)
    whole = engine_of(tiny, *ONE, f"runs={tmp_path / 'other'}")
    work_off(whole)
    a, b = resumed.journal.trials[0], whole.journal.trials[0]
    assert curve(a) == curve(b)
    assert (a.final, a.state) == (b.final, b.state)
    assert [t.trained for t in tasks[1:]] == [rung for rung in (1, 2) if rung > tasks[0].trained]


def test_a_trial_pauses_at_the_rung_that_its_checkpoint_has_reached(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=4")
    job = engine.next()
    assert isinstance(job, Job)
    candidate = Candidate(job)
    candidate.advance()
    candidate.advance()  # trained, saved, and never told
    again = engine_of(tiny, "trials=4")
    job, candidate = driven(again)
    trial = again.journal.trials[job.number]
    assert (trial.state, [r.epoch for r in trial.curve], trial.granted) == ("paused", [1], 1)
    assert candidate.trainer is not None
    assert len(candidate.trainer.curve) == 1


def test_the_journal_refuses_a_gap(tiny: Path) -> None:
    engine = engine_of(tiny)
    job = engine.next()
    assert isinstance(job, Job)
    trial = engine.journal.trials[job.number]
    with pytest.raises(ValueError, match="epoch 2 cannot follow 0 recorded"):
        engine.journal.trained(trial, EpochResult(2, 50.0, 1.0, 1.0))
    assert trial.curve == []


def begun(tiny: Path, *overrides: str) -> tuple[Engine, Path]:
    """Train a trial to its first rung, and return the engine and the checkpoint."""
    engine = engine_of(tiny, *ONE, *overrides)
    job, _ = driven(engine)
    path = checkpoint_path(engine.study.folder, job.number)
    assert path.is_file()
    return engine, path


@pytest.mark.parametrize(
    ("other", "whose"),
    [
        ("seed=1", "seed"),
        ("training.learning_rate=0.02", "recipe"),
        ("data.pad=2", "data"),
        ("space.kernels=[[1]]", "network"),
        ("name=other", "study"),
    ],
)
def test_a_checkpoint_of_another_training_is_left_alone(tiny: Path, tmp_path: Path, other: str, whose: str) -> None:
    """Its journal is gone, and the number is another trial's now."""
    _, foreign = begun(tiny, f"runs={tmp_path / 'foreign'}", other)
    engine = engine_of(tiny, *ONE)
    path = checkpoint_path(engine.study.folder, 0)
    path.parent.mkdir()
    shutil.copyfile(foreign, path)
    kept = foreign.read_bytes()
    driven(engine)
    (trial,) = engine.journal.trials.values()
    assert re.search(rf"is of another [\w ]*{whose}[\w ]*; trained from the start", trial.note)
    assert [r.epoch for r in trial.curve] == [1]
    assert path.with_suffix(".unused").read_bytes() == kept
    clean = engine_of(tiny, *ONE, f"runs={tmp_path / 'clean'}")
    driven(clean)
    assert curve(trial) == curve(clean.journal.trials[0])


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "tensor", "older"])
def test_a_damaged_checkpoint_starts_the_trial_again(tiny: Path, tmp_path: Path, damage: str) -> None:
    _, path = begun(tiny)
    content = path.read_bytes()
    if damage == "tensor":
        torch.save(torch.zeros(3), path)
    elif damage == "older":
        state = torch.load(path, weights_only=True)
        torch.save({k: v for k, v in state.items() if k != "owner"}, path)
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"\x80\x04noise" * 99}[damage])
    engine = engine_of(tiny, *ONE)
    work_off(engine)
    (trial,) = engine.journal.trials.values()
    assert (trial.state, trial.reason) == ("complete", "")
    assert "trained from the start" in trial.note
    assert [r.epoch for r in trial.curve] == [1, 2, 3, 4]
    whole = engine_of(tiny, *ONE, f"runs={tmp_path / 'other'}")
    work_off(whole)
    assert curve(trial) == curve(whole.journal.trials[0])


def test_what_was_enqueued_is_asked_again_after_the_driver_died_before_its_network_was_chosen(tiny: Path) -> None:
    first = engine_of(tiny, "trials=2")
    params = first.journal.trials[driven(first)[0].number].params
    first.journal.optuna.enqueue_trial(params)
    for _ in range(2):
        cut = engine_of(tiny, "trials=2")
        number = cut.journal.optuna.ask().number  # and the driver dies
        assert cut.journal.optuna.trials[number].system_attrs["fixed_params"] == params


def test_a_checkpoint_from_before_a_recipe_had_a_key_is_gone_on_from(tiny: Path) -> None:
    counted = count()
    *_, job = work_off(engine_of(tiny, *ONE), until=lambda *_: next(counted) == 2)
    path = checkpoint_path(Path(job.folder), job.number)
    state = torch.load(path, weights_only=True)
    del state["owner"]["recipe"]["fc3_range"]
    torch.save(state, path)
    other = {**job.owner, "recipe": {**job.owner["recipe"], "fc3_range": 0.5}}
    with pytest.raises(CheckpointError, match="is of another recipe"):
        read(path, other, "cpu")
    again = engine_of(tiny, *ONE)
    work_off(again)
    assert (again.journal.trials[0].state, again.journal.trials[0].note) == ("complete", "")
    assert not path.with_suffix(".unused").exists()


def test_whatever_byte_finds_no_room_it_is_told_as_that(tmp_path: Path) -> None:
    """Torch says of some that their position is unexpected."""
    path, soft = tmp_path / "0.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    state = {"model": {str(n): torch.zeros(70 + n) for n in range(60)}}
    write(path, {}, state)
    for size in range(path.stat().st_size % 97, path.stat().st_size, 97):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, soft[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write(path, {}, state)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert read(path, {}, "cpu").keys() == {"owner", "model"}
    assert [kept.name for kept in tmp_path.iterdir()] == ["0.pt"]
