from pathlib import Path

import numpy as np
import pytest

from record.files import read_study
from record.study import StudyError
from search.networks import SpaceNetworks
from search.samplers import check_unconditional
from search.samplers.proposing import Draw, mutated
from search.samplers.surrogate import Accuracy, extrapolated, flat, line
from spaces.cifar_mlp import CifarMLPSpace
from spaces.fixed import FixedSpace
from tests.driving import IMAGE, engine_of, work_off

SPACE = CifarMLPSpace(channels=((4, 8), (8, 16)), partitions=(2, 4), groups=(1, 2), kernels=((), (1,), (1, 3)), head=16)
NETWORKS = SpaceNetworks(SPACE, IMAGE)


def test_a_draw_repeats_what_it_is_given() -> None:
    first = Draw(np.random.default_rng(0))
    network = NETWORKS.suggest(first)
    assert NETWORKS.suggest(Draw(np.random.default_rng(1), first.params)) == network


def test_a_mutant_differs_in_what_was_offered() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        draw = Draw(generator)
        NETWORKS.suggest(draw)
        changed = mutated(generator, draw.params, draw.offered)
        different = [name for name in draw.params if changed[name] != draw.params[name]]
        assert different
        assert all(changed[name] in draw.offered[name] for name in different)


def test_the_gp_needs_the_same_parameters_in_every_trial() -> None:
    with pytest.raises(StudyError, match=r"stage\d\..* is asked in some only; use surrogate, tpe"):
        check_unconditional(NETWORKS)
    check_unconditional(SpaceNetworks(FixedSpace(), (3, (64, 64), 10)))


def test_a_configuration_becomes_numbers_words_and_sets() -> None:
    config = {
        "kind": "x",
        "stages": [{"channels": 8, "size": [4, 2]}, {"kernels": [[1, 1], "identity"], "block": None}],
    }
    assert flat(config) == {
        ".kind": "x",
        ".stages.0.channels": 8.0,
        ".stages.0.size.0": 4.0,
        ".stages.0.size.1": 2.0,
        ".stages.1.kernels": ['"identity"', "[1, 1]"],
    }


def test_lines_follow_many_pairs_and_keep_to_a_shift_for_few() -> None:
    before = np.linspace(20, 60, 400)
    slope, intercept, variance = line(list(zip(before, 0.5 * before + 30, strict=True)))
    assert (slope, intercept) == (pytest.approx(0.5, abs=0.01), pytest.approx(30, abs=0.2))
    assert variance < 0.1
    assert line([(10.0, 15.0), (20.0, 25.0)])[:2] == (1.0, 5.0)
    assert line([])[:2] == (1.0, 0.0)


def test_an_accuracy_is_carried_from_rung_to_rung() -> None:
    lines = [(2.0, 1.0, 0.5), (3.0, -1.0, 0.25)]
    assert extrapolated([10.0], lines) == (3 * (2 * 10 + 1) - 1, 9 * 0.5 + 0.25)
    assert extrapolated([10.0, 7.0], lines) == (20.0, 0.25)
    assert extrapolated([10.0, 7.0, 33.0], lines) == (33.0, 0.0)


def test_a_stopped_trial_teaches_without_passing_for_a_finished_one(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=6")
    work_off(engine)
    judged = [e for e in engine.journal.trials.values() if e.curve]
    stopped = [e for e in judged if e.state == "stopped"]
    assert stopped
    budgets = engine.study.budgets
    vectors = np.eye(len(judged), dtype=np.float32)
    model = Accuracy(budgets, judged, vectors, np.random.default_rng(0))
    assert not any(model.knows(e) for e in stopped)
    assert all(model.knows(e) for e in judged if e.state == "complete")


@pytest.mark.parametrize("sampler", ["surrogate", "local"])
def test_our_samplers_propose_what_was_not_seen(tiny: Path, sampler: str) -> None:
    wide = ["space.channels=[[4,8],[8,16]]", "space.groups=[1,2]", "space.kernels=[[],[1],[1,3]]", "training.epochs=1"]
    engine = engine_of(tiny, *wide, f"sampler={sampler}", "trials=16", "data.train_images=64", "halving=null")
    work_off(engine)
    assert engine.trained() == 16
    later = [e for e in engine.journal.trials.values() if e.number >= 12]
    assert sampler == "local" or all(e.twin is None for e in later)


def test_limits_are_kept_in_mind(tiny: Path) -> None:
    limited = ["space.channels=[[4,8],[8,16]]", "limits.max_params=20000", "training.epochs=1", "halving=null"]
    engine = engine_of(tiny, *limited, "sampler=surrogate", "trials=14", "data.train_images=64")
    work_off(engine)
    judged = [e for e in engine.journal.trials.values() if e.curve]
    assert len(judged) == 14
    assert max(e.costs["params"] for e in judged) <= 20000


def test_the_same_seed_asks_for_the_same_networks(tiny: Path, tmp_path: Path) -> None:
    quick = ["trials=14", "training.epochs=1", "halving=null", "objectives=[accuracy,macs]", "data.train_images=64"]
    runs = [engine_of(tiny, *quick, "sampler=surrogate", f"runs={tmp_path / name}") for name in ("a", "b")]
    for engine in runs:
        work_off(engine)
    a, b = ([e.config for e in r.journal.trials.values()] for r in runs)
    assert a == b
    assert read_study(tiny).sampler == "random"
