"""Runs that cannot be analysed: one or two sentences, nothing half-written, and no traceback."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from record.run import RunError, open_run
from record.study import StudyError
from repmlp.networks.resnet import resnet
from search.candidate import Candidate, Job, Report
from search.engine import Engine
from search.journal import Journal
from tests.driving import analysis, engine_of, run_folder, searched, work_off


def empty(tiny: Path) -> None:
    engine_of(tiny)


def all_failed(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=2", "halving=null")
    while isinstance(job := engine.next(), Job):
        engine.report(job.number, Report(failure="Diverged: the training loss became nan"))


def in_progress(tiny: Path) -> Engine:
    engine = engine_of(tiny, "trials=3", "halving=null")
    for _ in range(2):
        job = engine.next()
        assert isinstance(job, Job)
    engine.report(job.number, Candidate(job).advance())
    return engine


RUNS: dict[str, Callable[[Path], object]] = {"empty": empty, "failed": all_failed, "in progress": in_progress}
EXPECTED = {
    ("empty", "report"): "has no trial yet",
    ("empty", "ablation"): "has no trial yet",
    ("empty", "pick"): "has no complete trial to pick from",
    ("empty", "export"): "has no trial yet",
    ("empty", "figure"): "has no trial yet",
    ("failed", "figure"): "has an accuracy and throughput yet",
    ("in progress", "figure"): "has an accuracy and throughput yet",
    ("failed", "ablation"): "has 0 complete trials; at least 8",
    ("failed", "pick"): "has no complete trial to pick from (2 failed)",
    ("failed", "export"): "has no complete trial yet",
    ("in progress", "ablation"): "has 0 complete trials; at least 8",
    ("in progress", "pick"): "has no complete trial to pick from (2 running)",
    ("in progress", "export"): "has no complete trial yet",
}


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(("state", "name"), EXPECTED)
def test_what_a_run_cannot_answer_yet_is_said(tiny: Path, state: str, name: str) -> None:
    RUNS[state](tiny)
    before = files(tiny.parent)
    done = analysis(name, run_folder(tiny))
    assert done.exit_code == 2
    assert EXPECTED[state, name] in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count(". ") <= 1
    assert files(tiny.parent) == before


@pytest.mark.parametrize("state", ["failed", "in progress"])
@pytest.mark.parametrize("name", ["front", "report"])
def test_what_there_is_of_an_unfinished_run_is_shown(tiny: Path, state: str, name: str) -> None:
    RUNS[state](tiny)
    done = analysis(name, run_folder(tiny))
    assert done.exit_code == 0, done.output


def test_limits_that_nothing_keeps_write_no_study(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "halving=null"))
    before = files(tiny.parent)
    done = analysis("pick", run_folder(tiny), "--max-params", "10")
    assert (done.exit_code, "none of 1 complete trials keeps max_params=10" in done.stderr) == (2, True), done.stderr
    assert files(tiny.parent) == before


def test_a_pick_of_a_run_in_progress_says_that_it_may_change(tiny: Path) -> None:
    engine = in_progress(tiny)
    engine.running.discard(0)
    work_off(engine_of(tiny, "trials=2", "halving=null"))
    engine = engine_of(tiny, "trials=3", "halving=null")
    assert isinstance(engine.next(), Job)
    done = analysis("pick", run_folder(tiny))
    assert done.exit_code == 0, done.output
    assert "is not finished: 1 trial may still change this" in done.stderr


def test_a_journal_whose_last_line_is_torn_is_read_up_to_it(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "halving=null"))
    path = run_folder(tiny) / "journal.log"
    with path.open("a") as file:
        file.write('{"op_code": 8, "trial_id"')
    done = analysis("front", run_folder(tiny))
    assert done.exit_code == 0, done.output


def test_a_journal_that_is_damaged_within_is_named(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "halving=null"))
    path = run_folder(tiny) / "journal.log"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "{torn\n", *lines[3:]]))
    done = analysis("front", run_folder(tiny))
    assert (done.exit_code, "is damaged" in done.stderr) == (2, True), done.output
    assert "is damaged" in searched(tiny, "trials=1", "halving=null").stderr


def test_whatever_happens_to_a_line_of_a_journal_ends_in_a_sentence(tiny: Path) -> None:
    """Either the run is read, or it is said what is damaged."""
    engine = engine_of(tiny, "trials=2", "halving=null")
    work_off(engine)
    path = run_folder(tiny) / "journal.log"
    lines, random = path.read_text().splitlines(), Random(0)
    known = json.loads(lines[0])
    odd = ["@", "[1, 2]", "7", "null", "", "\0" * 64, json.dumps(known | {"op_code": 99}), json.dumps({"op_code": "x"})]
    told = 0
    for _ in range(150):
        changed = list(lines)
        at = random.randrange(len(lines))
        value = json.loads(changed[at])
        key = random.choice(list(value))
        less = {k: v for k, v in value.items() if k != key}
        other = value | {key: random.choice([None, -3, "z", [1], {}])}
        instead = [[], [lines[at]] * 2, [json.dumps(less)], [json.dumps(other)], [random.choice(odd)]]
        changed[at : at + 1] = random.choice(instead)
        path.write_text("\n".join(changed) + random.choice(["\n", "\n\n", "\n\0\0", ""]))
        try:
            open_run(path.parent).front()
            Journal(engine.study)
        except (RunError, StudyError) as error:
            told += "is damaged" in str(error)
    assert told > 30


def test_weights_of_another_network_leave_a_report_without_its_picture(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "halving=null", "space.kinds=[repmlp]"))
    weights = run_folder(tiny) / "weights" / "0.safetensors"
    shutil.copyfile(tiny, weights)
    done = analysis("report", run_folder(tiny))
    assert done.exit_code == 0, done.output
    named = analysis("kernel", run_folder(tiny))
    assert (named.exit_code, "is damaged or truncated" in named.stderr) == (2, True), named.output


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("space.channels=[[1000000000,8]]", "too large; use at most 1,048,576"),
        ("space.channels=[[100000]]", "parameters (100000x1 conv 3); at most 10,000,000,000"),
        ("space.blocks=[100000]", "blocks=100000 is too large; use at most 100"),
        ("space.groups=[1000000000]", "groups=1000000000 is too large"),
        ("limits.max_params=1", "the least seen are params=426"),
        ("limits.max_params=.inf", "limits.max_params=inf: should be a finite number"),
        ("training.learning_rate=.inf", "learning_rate=inf: should be a finite number"),
        ("training.epochs=1000000000", "less than or equal to 1000000"),
        ("seed=4294967296", "seed=4294967296: should be less than 2147483648"),
        ("data.size=1000", "data.size=1000 is over 8 times the 28 pixels of stored images; use at most 224"),
        ("data.size=1000000000", "less than or equal to 8192"),
        ("data.pad=1000000000", "less than or equal to 8192"),
        ("resources.concurrent=1000000000", "less than or equal to 1024"),
        ("resources.cpus=.inf", "resources.cpus=inf: should be"),
        ("measure.threads=1000000", "less than or equal to 1024"),
        ("measure.batch=1000000000", "less than or equal to 65536"),
        (f"trials={'x' * 10_000}", f"trials='{'x' * 99} ...: should be a valid integer"),
        (f"space={'[' * 3000}{']' * 3000}", "is nested over 50 levels deep"),
        (f"space={'[' * 30_000}{']' * 30_000}", "is nested over 50 levels deep"),
    ],
    ids=lambda text: text[:40],
)
def test_values_that_cannot_work_are_told_soon(tiny: Path, override: str, said: str) -> None:
    start = time.process_time()
    found = searched(tiny, "--dry-run", override)
    assert (found.exit_code, said in found.stderr) == (2, True), found.stderr
    assert found.stderr.startswith("error: ")
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert time.process_time() - start < 4  # two seconds, and what is imported late


@pytest.mark.parametrize("text", ["a: [" * 3000, "[" * 30_000, "- " * 30_000, "{a: " * 3000])
def test_a_study_file_nested_without_end_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "deep.yaml").write_text(f"space:\n  {text}")
    found = searched(tmp_path / "deep.yaml", "--dry-run")
    assert (found.exit_code, "deep.yaml is nested over 50 levels deep" in found.stderr) == (2, True), found.stderr


def test_factors_that_no_network_has_are_refused() -> None:
    with pytest.raises(ValueError, match=r"width=1e\+308 is too large; use at most 1,000"):
        resnet(width=1e308)
