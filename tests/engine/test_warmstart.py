from pathlib import Path

import pytest

from record.run import open_run
from record.study import Search, StudyError
from search.engine import Engine
from search.networks import SpaceNetworks
from search.warmstart import starts
from spaces.resnet import ResNet50Space
from spaces.starts import PAPER
from tests.driving import engine_of, work_off

ALL = "halving=null"
START = "start_with=[{stage1.kind: repmlp, stage1.kernels: [1, 3], stage1.channels: 8}]"


def outcomes(engine: Engine) -> list[str]:
    return [e.state for e in engine.journal.trials.values()]


def test_a_study_begins_with_the_networks_it_names(tiny: Path) -> None:
    engine = engine_of(tiny, START, "trials=2", ALL)
    first, second = work_off(engine)
    (stage,) = first.config["stages"]
    assert (stage["channels"], stage["block"]["kind"], stage["block"]["kernels"]) == (8, "repmlp", [[1, 1], [3, 3]])
    assert second.config != first.config


def test_what_is_still_to_be_started_with_survives_an_interruption(tiny: Path) -> None:
    two = "start_with=[{stage1.kind: conv}, {stage1.kind: repmlp, stage1.kernels: [1, 3]}]"
    cut = engine_of(tiny, two, "trials=2", "resources.concurrent=1", ALL)
    work_off(cut, until=lambda _, reports: reports == 1)
    tasks = work_off(engine_of(tiny, two, "trials=2", "resources.concurrent=1", ALL))
    assert [t.config["stages"][0]["block"]["kind"] for t in tasks] == ["conv", "repmlp"]
    assert len(open_run(str(cut.study.folder)).trials) == 2


def test_rivals_that_are_not_of_the_space_are_trained_beside_its_networks(tiny: Path) -> None:
    rivals = "start_with=[{build: timm, model: repghostnet_050}, {build: resnet, width: 0.0625, stem: small}]"
    first = engine_of(tiny, rivals, "trials=3", ALL)
    jobs = work_off(first, until=lambda job, _: job.number == 1)  # and the process dies
    jobs += work_off(engine_of(tiny, rivals, "trials=3", ALL))
    assert [job.config["kind"] for job in jobs] == ["timm", "resnet", "resnet", "cifar"]
    trials = open_run(str(first.study.folder)).trials
    assert list(trials["outcome"]) == 3 * ["complete"]
    assert trials["config"][0]["model"] == "repghostnet_050"
    assert trials["param.stage1.kind"].isna().tolist() == [True, True, False]


def test_a_rival_is_still_asked_for_where_the_process_died_before_it_was_described(tiny: Path) -> None:
    rival = "start_with=[{build: resnet, width: 0.0625, stem: small}]"
    cut = engine_of(tiny, rival, "trials=1", ALL)
    cut.journal.optuna.ask()  # and the process dies
    (job,) = work_off(engine_of(tiny, rival, "trials=1", ALL))
    assert job.config["kind"] == "resnet"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("{build: timm, model: repghostnet}", "start_with: network 'repghostnet': .*repghostnet_050"),
        ("{build: resnett}", "build='resnett' must be one of"),
        ("{stage1.kind: dense}", r"stage1.kind='dense' is not offered; there are repmlp, conv"),
        ("{stage1.knd: conv}", r"stage1.knd is not asked; parameters of that network are .*stage1.kind"),
        ("paper", "holds no network of the paper"),
    ],
)
def test_a_start_outside_the_space_is_refused(tiny: Path, start: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        engine_of(tiny, f"start_with=[{start}]")


def test_the_papers_networks_are_what_its_tables_count() -> None:
    networks = SpaceNetworks(ResNet50Space(), (3, (224, 224), 1000))
    study = Search(name="t", space=ResNet50Space(), start_with=("paper",))
    found = starts(study, networks)
    assert len(found) == len(PAPER) - 3  # those of Table 4 are for 320 pixels
    from spaces.choices import Preset

    table_2 = networks.suggest(Preset(PAPER["Table 2, r=4 g=8"]))
    assert networks.describe(table_2).costs["params"] / 1e6 == pytest.approx(30.87, abs=0.01)
    table_3 = networks.suggest(Preset(PAPER["Table 3, c3 c4"]))
    assert networks.describe(table_3).costs["params"] / 1e6 == pytest.approx(40.87, abs=0.01)
    large = ResNet50Space(partitions=(10,), groups=(4, 8, 16))
    table_4 = SpaceNetworks(large, (3, (320, 320), 1000))
    counts = table_4.describe(table_4.suggest(Preset(PAPER["Table 4, g4/8 at 320"]))).costs
    assert counts["params"] / 1e6 == pytest.approx(87.38, abs=0.01)
    assert len(starts(study, table_4)) == 4  # these three, and ResNet-50


def test_results_of_an_earlier_run_are_taken_over(tiny: Path) -> None:
    earlier = engine_of(tiny, "trials=5", "name=earlier")
    work_off(earlier)
    known = {e.training_id: e for e in earlier.journal.trials.values() if e.state in ("complete", "stopped")}
    source = f"from_runs=[{earlier.study.folder}]"
    engine = engine_of(tiny, "trials=3", source)
    taken = {e.training_id: e for e in engine.journal.trials.values()}
    assert taken.keys() == known.keys()
    for training_id, entry in taken.items():
        old = known[training_id]
        assert (entry.state, entry.final, entry.curve) == (old.state, old.final, old.curve)
        assert entry.measurement() == old.measurement()
        assert entry.origin == f"{earlier.study.folder} trial {old.number}"
        weights = [
            r / "weights" / f"{e.number}.safetensors"
            for r, e in ((earlier.study.folder, old), (engine.study.folder, entry))
        ]
        assert weights[0].exists() == weights[1].exists() == (entry.state == "complete")
    tasks = work_off(engine)
    assert engine.trained() == 3
    assert not {engine.journal.trials[t.number].training_id for t in tasks} & set(known)
    again = engine_of(tiny, "trials=3", source)
    assert len(again.journal.trials) == len(engine.journal.trials)
    assert open_run(str(engine.study.folder)).trials["origin"].ne("").sum() == len(known)


def test_a_run_of_another_recipe_gives_its_front_to_begin_with(tiny: Path) -> None:
    earlier = engine_of(tiny, "trials=3", "name=earlier", "training.epochs=2", ALL)
    work_off(earlier)
    front = [t.number for t in earlier.journal.optuna.best_trials]
    engine = engine_of(tiny, f"trials={len(front)}", f"from_runs=[{earlier.study.folder}]", ALL)
    assert outcomes(engine) == []
    tasks = work_off(engine)
    assert [dict(t.config) for t in tasks] == [earlier.journal.trials[n].config for n in front]


def test_a_run_that_is_not_there_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"from_runs: .*nowhere is not a run folder"):
        engine_of(tiny, f"from_runs=[{tmp_path / 'nowhere'}]")
