"""What only a GPU can show; `python -m pytest -m gpu`, also part of `python -m benchmarks.gpu`."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.study import Search
from repmlp import CifarNet, RepMLPBlock, Stage, build, config_to_dict
from search.backends import local
from search.candidate import Candidate
from search.data import Mnist5k
from search.engine import Engine
from search.journal import Journal
from search.measuring.locks import DeviceLock
from search.measuring.points import measure
from search.measuring.switches import switches
from search.networks import SpaceNetworks
from search.training.precision import native
from search.training.trainer import Trainer
from spaces.cifar_mlp import CifarMLPSpace
from tests.engine.test_training import CONFIG, DATA, task

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
EXACT = Recipe(epochs=2, batch=50, precision="float32", learning_rate=0.05)
WIDE = CifarNet(
    stages=tuple(Stage(channels=c, block=RepMLPBlock(partition=8, groups=2, kernels=(1, 3, 5))) for c in (16, 32)),
    in_channels=1,
    size=16,
    head=64,
)


def losses(recipe: Recipe, device: str, epochs: int = 2) -> list[float]:
    trainer = Trainer(CONFIG, DATA, recipe, 0, device)
    with switches(tf32=False):
        return [trainer.train_epoch().loss for _ in range(epochs)]


def test_training_gives_what_it_gives_on_a_cpu() -> None:
    assert losses(EXACT, "cuda") == pytest.approx(losses(EXACT, "cpu"), rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"precision": "auto"}, {"clip": 0.5}, {"optimizer": "adamw"}, {"mixup": 0.2}])
def test_a_step_replayed_as_a_graph_trains_as_one_launched_operator_by_operator(changes: dict[str, object]) -> None:
    recipe = EXACT.model_copy(update={"learning_rate": 0.01, **changes})
    graphed = Trainer(CONFIG, DATA, recipe.model_copy(update={"graph": "auto"}), 0, "cuda")
    eager = Trainer(CONFIG, DATA, recipe, 0, "cuda")
    for _ in range(2):
        assert graphed.train_epoch().loss == pytest.approx(eager.train_epoch().loss, rel=2e-2)
    assert graphed.note == ""
    assert graphed.graphed is not None
    assert graphed.graphed.graph is not None


def test_a_graphed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    recipe = EXACT.model_copy(update={"graph": "auto", "epochs": 4})
    whole = Trainer(CONFIG, DATA, recipe, 0, "cuda")
    for _ in range(2):
        whole.train_epoch()
    whole.save(tmp_path / "0.pt", {"seed": 0})
    resumed = Trainer(CONFIG, DATA, recipe, 1, "cuda")
    resumed.restore(tmp_path / "0.pt", {"seed": 0})
    resumed.seed = 0
    for trainer in (whole, resumed):
        while len(trainer.curve) < 4:
            trainer.train_epoch()
    assert resumed.curve[-1].loss == pytest.approx(whole.curve[-1].loss, rel=2e-2)


@pytest.mark.parametrize("changes", [{"compiled": True}, {"channels_last": True}, {"precision": "float16"}])
def test_other_ways_of_training_learn_as_fast(changes: dict[str, object]) -> None:
    assert losses(EXACT.model_copy(update=changes), "cuda") == pytest.approx(losses(EXACT, "cuda"), rel=5e-2)


@pytest.mark.parametrize("changes", [{}, {"channels_last": True}, {"precision": "auto", "graph": "auto"}])
def test_a_candidate_is_measured_trained_converted_and_kept(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = EXACT.model_copy(update=changes)
    candidate = Candidate(task(tmp_path, device="cuda", gpus=0.5, recipe=recipe, data=DATA))
    reports = [candidate.advance() for _ in range(3)]
    assert [r.failure for r in reports] == [None] * 3
    speed = reports[0].measured["default"]
    assert speed.runtime == "cuda-graph"
    assert speed.host_bound is not None
    assert reports[-1].final.conversion_error <= 1e-5
    assert (tmp_path / "weights" / "7.safetensors").is_file()


def test_replays_are_at_least_as_fast_as_launches() -> None:
    conditions = Point(batch=128, seconds=0.2)
    model = build(WIDE, deploy=True)
    graph = measure(model, (1, 16, 16), conditions, "cuda")
    launched = measure(model, (1, 16, 16), conditions.model_copy(update={"runtime": "torch"}), "cuda")
    assert (graph.runtime, launched.runtime) == ("cuda-graph", "torch")
    assert (graph.host_bound is None, launched.host_bound is None) == (False, True)
    assert graph.median > 0.9 * launched.median


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_what_the_study_says_whatever_was_set_before(tf32: bool) -> None:
    conditions = Point(batch=8, seconds=0.05, tf32=tf32)
    with switches(tf32=not tf32):
        assert measure(build(WIDE, deploy=True), (1, 16, 16), conditions, "cuda").tf32 == tf32
        assert torch.backends.cudnn.allow_tf32 == (not tf32)


def test_a_trainer_gives_way_only_when_the_device_has_done_what_was_queued(tmp_path: Path) -> None:
    trainer, measurer, idle = DeviceLock("cuda", tmp_path), DeviceLock("cuda", tmp_path), threading.Event()
    x = torch.randn(4096, 4096, device="cuda")
    done = torch.cuda.Event()

    def measured() -> None:
        with measurer.alone():
            if done.query():
                idle.set()

    with trainer.shared():
        thread = threading.Thread(target=measured)
        thread.start()
        time.sleep(0.2)
        for _ in range(200):
            x = x @ x / 64
        done.record()
        assert not done.query()
        trainer.give_way()
    thread.join()
    assert idle.is_set()


def test_running_out_of_memory_leaves_none_of_it_taken(tmp_path: Path) -> None:
    huge = replace(WIDE, stages=tuple(replace(s, channels=16 * s.channels) for s in WIDE.stages))
    free, _ = torch.cuda.mem_get_info()
    data = DATA.model_copy(update={"size": 16})
    job = task(tmp_path, device="cuda", gpus=0.02, recipe=EXACT, data=data, config=config_to_dict(huge), measure={})
    report = Candidate(job).advance()
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert report.out_of_memory
    assert torch.cuda.memory_allocated() < 2**20 * 64
    assert torch.cuda.mem_get_info()[0] > free - 2**28


def test_auto_is_what_the_gpu_multiplies() -> None:
    assert native("cuda") == ("bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16")


def test_two_trials_share_a_gpu_without_ray(tmp_path: Path) -> None:
    study = Search(
        name="shared",
        space=CifarMLPSpace(channels=((4, 8),), blocks=(1,), partitions=(4,), groups=(1, 2), head=16),
        data=Mnist5k(size=8, train_images=400, validation=0.25, pad=1),
        training=Recipe(epochs=2, batch=25),
        trials=4,
        sampler="random",
        measure={"default": Point(batch=8, seconds=0.05)},
        resources=Resources(gpus=0.5, concurrent=2, backend="local"),
        runs=str(tmp_path),
    )
    study.folder.mkdir()
    engine = Engine(Journal(study), SpaceNetworks(study.space, (1, (8, 8), 10)))
    local.run(engine)
    assert engine.finished
    assert engine.places == 2
    done = [e for e in engine.journal.trials.values() if e.state == "complete"]
    assert done
    assert all(m.device == torch.cuda.get_device_name() for e in done for m in e.measured.values())
