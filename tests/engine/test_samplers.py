from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from tests.driving import IMAGE, engine_of, scripted

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


WIDE = "space.channels=[[4,8,12,16],[4,8,12,16],[4,8,12,16]]"


def width(config: Mapping[str, Any]) -> float:
    """An accuracy for scripted trials: the wider the stages, the better; 25 to 100, 62.5 of random networks."""
    return 100 * sum(stage["channels"] for stage in config["stages"]) / 48


def test_a_stopped_trial_teaches_without_passing_for_a_finished_one(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=6", WIDE)
    scripted(engine, width)
    judged = [e for e in engine.journal.trials.values() if e.curve]
    stopped = [e for e in judged if e.state == "stopped"]
    assert stopped
    budgets = engine.study.budgets
    vectors = np.eye(len(judged), dtype=np.float32)
    model = Accuracy(budgets, judged, vectors, np.random.default_rng(0))
    assert not any(model.knows(e) for e in stopped)
    assert all(model.knows(e) for e in judged if e.state == "complete")


@pytest.mark.parametrize(
    ("sampler", "start_up", "trials", "kinds"),
    [
        ("tpe", 10, 40, "[repmlp,conv]"),
        ("nsga2", 20, 60, "[repmlp,conv]"),
        ("local", 10, 30, "[repmlp,conv]"),
        ("gp", 10, 14, "[conv]"),
        ("random", 10, 60, "[repmlp,conv]"),
    ],
)
def test_past_its_start_up_a_sampler_asks_for_what_has_done_well(
    tiny: Path, sampler: str, start_up: int, trials: int, kinds: str
) -> None:
    engine = engine_of(tiny, WIDE, f"space.kinds={kinds}", f"sampler={sampler}", f"trials={trials}", "halving=null")
    asked = [width(entry.config) for entry in scripted(engine, width)]
    assert len(asked) == trials
    assert (np.mean(asked[start_up:]) > 67) == (sampler != "random")


def test_the_surrogate_proposes_what_was_not_seen(tiny: Path) -> None:
    few = ["space.channels=[[4,8],[8,16]]", "space.kernels=[[],[1],[1,3]]"]
    engine = engine_of(tiny, *few, "sampler=surrogate", "trials=30", "halving=null")
    assert len(scripted(engine, width)) == 30
    later = [e for e in engine.journal.trials.values() if e.number >= 12]
    assert all(e.twin is None for e in later)


def test_limits_are_kept_in_mind(tiny: Path) -> None:
    """Random networks exceed this limit in about four of ten cases."""
    engine = engine_of(tiny, WIDE, "limits.max_params=40000", "halving=null", "sampler=surrogate", "trials=20")
    begun = scripted(engine, width)
    assert max(e.costs["params"] for e in begun) <= 40000
    learned = [e for e in engine.journal.trials.values() if e.number > begun[9].number + 1]
    assert len(learned) >= 9
    assert sum(e.state == "infeasible" for e in learned) < len(learned) / 4


def test_the_same_seed_asks_for_the_same_networks(tiny: Path, tmp_path: Path) -> None:
    quick = ["trials=14", "halving=null", "objectives=[accuracy,macs]", WIDE]
    runs = [engine_of(tiny, *quick, "sampler=surrogate", f"runs={tmp_path / name}") for name in ("a", "b")]
    for engine in runs:
        scripted(engine, width)
    a, b = ([e.config for e in r.journal.trials.values()] for r in runs)
    assert a == b
    assert read_study(tiny).sampler == "random"
