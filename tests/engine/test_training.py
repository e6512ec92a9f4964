import math
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from record.measure import Point
from record.recipe import Recipe
from repmlp import CifarNet, RepMLPBlock, Stage, config_to_dict, convert
from repmlp.networks.pspnet import PSPNet
from repmlp.networks.resnet import ResNet, ResNetStage, face_resnet
from repmlp.penalty import distance_norms, distance_penalty
from search.candidate import Candidate, Job
from search.data import FaceFolder, Mnist5k, SegmentationFolder
from search.training.tasks import Recognition, Segmentation
from search.training.trainer import DivergedError, Trainer
from tests.sets import DATA_SETS, rows_of_faces, write_classes, write_faces, write_segments

DATA = Mnist5k(size=8, train_images=500, validation=0.2, pad=1)
RECIPE = Recipe(epochs=4, batch=50, precision="float32", learning_rate=0.05)
CONFIG = CifarNet(
    stages=(Stage(channels=8, blocks=1, block=RepMLPBlock(partition=4, groups=2, kernels=(1, 3))),),
    in_channels=1,
    size=8,
    head=16,
)


SMALL = RepMLPBlock(partition=3, groups=2, kernels=(1, 3))
FACES = face_resnet(
    {
        "c2": {"kind": "bottleneck", "r": 2, "repmlp": SMALL, "blocks": 2},
        **{c: {"blocks": 1} for c in ("c3", "c4", "c5")},
    },
    0.25,
    size=24,
    in_channels=1,
    classes=16,
)
PIXELS = PSPNet(
    backbone=ResNet(
        stages=(
            ResNetStage(channels=16, blocks=1, stride=1),
            ResNetStage(channels=32, blocks=2, stride=1, kind="bottleneck", repmlp=replace(SMALL, partition=4)),
        ),
        stem="small",
        stem_channels=8,
        head="none",
        size=(16, 16),
    ),
    bins=(1, 2),
    channels=8,
    classes=3,
)
RESNET = ResNet(
    stages=(ResNetStage(channels=16, blocks=2, kind="light", repmlp=replace(SMALL, partition=4)),),
    stem="small",
    stem_channels=8,
    size=(16, 16),
    classes=3,
)
TASKS = ("faces", "streamed faces", "pixels", "classes")


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.model.state_dict()


def trainer_of(task: str, root: Path, seed: int = 3, **changes: object) -> Trainer:
    """A trainer of a tiny network on a set that is written to `root` once."""
    recipe = Recipe(**{"epochs": 4, "batch": 4, "precision": "float32", "learning_rate": 0.02, **changes})
    write, network, fields = {
        "faces": (write_faces, FACES, {"name": "face_folder", "size": 24, "pad": 2, "flip": True, "validation": 0.34}),
        "streamed faces": (
            write_faces,
            replace(FACES, in_channels=3),
            {"name": "face_folder", "size": 24, "flip": True, "validation": 0.34, "stream": True},
        ),
        "pixels": (
            write_segments,
            PIXELS,
            {"name": "segmentation_folder", "size": 16, "scale": (0.5, 2), "rotate": 10, "flip": True},
        ),
        "classes": (write_classes, RESNET, {"name": "imagenet", "size": 16, "auto_augment": True, "validation": 0.25}),
    }[task]
    if not any(root.iterdir()):
        write(root)
    return Trainer(network, DATA_SETS.validated({"root": str(root), "workers": 0, **fields}), recipe, seed)


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights of the network and of the task."""
    return {name: value.clone() for name, value in trainer.objective.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    a, b, c = (Trainer(CONFIG, DATA, RECIPE, seed) for seed in (1, 1, 2))
    results = [t.train_epoch() for t in (a, b, c)]
    assert all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())
    assert not torch.equal(weights(a)["head.2.weight"], weights(c)["head.2.weight"])
    assert results[0].loss == results[1].loss != results[2].loss


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = Trainer(CONFIG, DATA, RECIPE, 3)
    for _ in range(2):
        whole.train_epoch()
    whole.save(tmp_path / "2.pt", {"seed": 0})
    resumed = Trainer(CONFIG, DATA, RECIPE, 3)
    resumed.restore(tmp_path / "2.pt", {"seed": 0})
    for trainer in (whole, resumed):
        while len(trainer.curve) < RECIPE.epochs:
            trainer.train_epoch()
    assert all(torch.equal(v, weights(resumed)[k]) for k, v in weights(whole).items())
    assert [(r.accuracy, r.loss) for r in whole.curve] == [(r.accuracy, r.loss) for r in resumed.curve]


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Trainer(CONFIG, DATA, RECIPE, 1).train_epoch()
    assert torch.equal(torch.rand(1), expected)


def test_training_learns() -> None:
    config = replace(CONFIG, size=8, stages=(Stage(channels=16, block=RepMLPBlock(partition=4, kernels=(1, 3))),))
    trainer = Trainer(config, Mnist5k(size=8), Recipe(epochs=5, batch=50, learning_rate=0.05), 0)
    assert [trainer.train_epoch().accuracy for _ in range(5)][-1] > 50  # chance is 10


def test_the_rate_warms_up_and_falls_to_zero_on_a_cosine() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"warmup": 1}), 0)
    rates = [trainer.learning_rate(s) for s in range(4 * 8 + 1)]
    assert rates[0] == pytest.approx(0.05 / 8)
    assert rates[8] == pytest.approx(0.05)
    assert rates[20] == pytest.approx(0.025)
    assert rates[32] == pytest.approx(0)


def test_weight_decay_spares_biases_and_bn() -> None:
    decayed, spared = Trainer(CONFIG, DATA, RECIPE, 0).optimizer.param_groups
    assert {p.dim() for p in spared["params"]} == {1}
    assert spared["weight_decay"] == 0
    assert decayed["weight_decay"] == RECIPE.weight_decay
    assert min(p.dim() for p in decayed["params"]) == 2


def test_a_diverging_run_is_an_error() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"learning_rate": 1e30}), 0)
    with pytest.raises(DivergedError, match="epoch 1; try a lower learning rate"):
        trainer.train_epoch()


def task(folder: Path, **changes: object) -> Job:
    measure = {"default": Point(batch=8, seconds=0.02)}
    fields = {"number": 7, "config": config_to_dict(CONFIG), "seed": 0, "data": DATA, "recipe": RECIPE, "rungs": (1, 3)}
    fields |= {"measure": measure, "device": "cpu", "threads": 1, "folder": str(folder)}
    return Job(**{**fields, **changes})


def test_a_candidate_measures_trains_converts_and_keeps_its_weights(tmp_path: Path) -> None:
    candidate = Candidate(task(tmp_path))
    reports = [candidate.advance() for _ in range(5)]
    speed = reports[0].measured["default"]
    assert speed.p10 <= speed.median <= speed.p90
    assert [r.epoch.epoch for r in reports[1:]] == [1, 2, 3, 4]
    assert [r.last for r in reports] == [False] * 4 + [True]
    assert reports[-1].final.conversion_error <= 1e-5
    assert reports[-1].final.accuracy == pytest.approx(reports[-1].epoch.accuracy, abs=1)
    assert (tmp_path / "weights" / "7.safetensors").is_file()


def test_a_candidate_resumes_from_its_last_rung(tmp_path: Path) -> None:
    first = Candidate(task(tmp_path, measure={}))
    whole = [first.advance() for _ in range(2)]
    second = Candidate(task(tmp_path, measure={}, trained=1))
    assert second.advance().epoch.epoch == 2
    assert second.trainer.curve[0] == whole[0].epoch


def test_a_diverged_candidate_reports_its_reason(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30})
    report = Candidate(task(tmp_path, measure={}, recipe=recipe)).advance()
    assert report.last
    assert report.failure.startswith("Diverged: the training loss became")


def test_a_conversion_beyond_tolerance_fails_the_trial_and_keeps_the_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.candidate.TOLERANCE", -1.0)
    candidate = Candidate(task(tmp_path, measure={}, recipe=RECIPE.model_copy(update={"epochs": 1})))
    report = candidate.advance()
    assert report.failure.startswith("Conversion: converted and trained outputs differ by")
    assert "7.safetensors" in report.failure
    kept = load_file(tmp_path / "weights" / "7.safetensors")
    trained = candidate.trainer.model.state_dict()
    assert kept.keys() == trained.keys()
    assert all(torch.equal(kept[name], value) for name, value in trained.items())


class Imprecise(nn.Module):
    """Computes what a network does but for an error in float32 alone, as other convolution algorithms make one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) * (1.001 if x.dtype == torch.float32 else 1)


def test_a_difference_of_float32_algorithms_alone_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.candidate.convert", lambda model: Imprecise(convert(model)))
    recipe = RECIPE.model_copy(update={"epochs": 1})
    report = Candidate(task(tmp_path, measure={}, recipe=recipe)).advance()
    assert report.failure is None
    assert report.final.conversion_error < 1e-5


def test_a_network_whose_outputs_are_all_0_is_compared_too() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE, 0)
    for parameter in trainer.model.parameters():
        parameter.data.zero_()
    assert trainer.compare(trainer.model)[1] == 0
    converted = convert(trainer.model)
    last_bias(converted)[0] = 0.5
    assert trainer.compare(converted)[1] == math.inf


def test_running_out_of_memory_gives_it_back_and_says_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[bool] = []
    held: list[weakref.ref[torch.Tensor]] = []

    def full(self: Candidate, *_: object) -> None:
        step = torch.zeros(10)  # of a step that the traceback refers to
        held.append(weakref.ref(step))
        self.trainer = SimpleNamespace(step=step)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[-1]() is not None))
    monkeypatch.setattr(Candidate, "train", full)
    monkeypatch.setattr(Candidate, "measured", full)
    report = Candidate(task(tmp_path, measure={}, gpus=1.0)).advance()
    assert report.out_of_memory
    assert report.failure == "out of memory on its GPU: CUDA out of memory; lower training.batch"
    report = Candidate(task(tmp_path, gpus=0.5)).advance()
    assert (
        report.failure == "out of memory on its 0.5 of a GPU while measuring: CUDA out of memory; lower measure.batch"
    )
    assert alive == [False, False]


def test_a_share_of_a_gpu_leaves_room_for_what_the_process_itself_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    properties = SimpleNamespace(total_memory=8 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    Candidate(task(tmp_path, gpus=0.5)).keep_share()
    Candidate(task(tmp_path, gpus=1.0)).keep_share()
    assert shares == [0.5 - 0.5 / 8, 1]  # a process may serve a trial that once had too little


def test_bn_counts_its_batches_without_an_operator_a_step() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE, 0)
    seen: list[object] = []
    bns = [m for m in trainer.model.modules() if isinstance(m, nn.BatchNorm2d)]
    bns[0].register_forward_hook(lambda bn, *_: seen.append(bn.num_batches_tracked) if bn.training else None)
    names = list(weights(trainer))
    for _ in range(2):
        trainer.train_epoch()
    assert seen == [None] * 16
    assert [int(bn.num_batches_tracked) for bn in bns] == [16] * len(bns)
    assert list(weights(trainer)) == names


def test_networks_are_laid_out_as_the_recipe_says_and_saved_as_everybody_reads_them(tmp_path: Path) -> None:
    for wanted, expected in ((None, True), (True, True), (False, False)):
        trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"channels_last": wanted}), 0)
        wide = [p for p in trainer.model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        assert wide
        assert all(w.is_contiguous(memory_format=torch.channels_last) == expected for w in wide)
    job = task(tmp_path, measure={}, recipe=RECIPE.model_copy(update={"epochs": 1}))
    assert Candidate(job).advance().final is not None
    assert load_file(tmp_path / "weights" / "7.safetensors")


def test_time_spent_waiting_is_part_of_an_epochs_record() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE, 0, between=lambda: 0.25)
    result = trainer.train_epoch()
    assert result.waited == 0.25 * (trainer.steps + 1)  # batches, and one of validation


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_a_compiled_objective_trains_as_the_eager_one_does(penalty: float) -> None:
    recipe = RECIPE.model_copy(update={"fc3_penalty": penalty})
    eager, compiled = (Trainer(CONFIG, DATA, recipe.model_copy(update={"compiled": c}), 0) for c in (False, True))
    for _ in range(2):
        a, b = eager.train_epoch(), compiled.train_epoch()
        assert b.loss == pytest.approx(a.loss, rel=1e-3)
    assert list(weights(eager)) == list(weights(compiled))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_resumes_bit_for_bit_with_its_own_weights_and_dropout(task: str, tmp_path: Path) -> None:
    data, changes = tmp_path / "data", {"mixup": 0.2 if task == "classes" else 0, "optimizer": "adamw", "clip": 1.0}
    data.mkdir()
    whole = trainer_of(task, data, **changes)
    before = state(whole)
    for _ in range(2):
        whole.train_epoch()
    whole.save(tmp_path / "runs" / "2.pt", {"seed": 0})
    resumed = trainer_of(task, data, seed=3, **changes)
    resumed.restore(tmp_path / "runs" / "2.pt", {"seed": 0})
    assert same(state(whole), state(resumed))
    for trainer in (whole, resumed):
        while len(trainer.curve) < 4:
            torch.rand(1)  # the state of the global generator is of no account
            trainer.train_epoch()
    assert same(state(whole), state(resumed))
    assert [(r.accuracy, r.loss, r.details) for r in whole.curve] == [
        (r.accuracy, r.loss, r.details) for r in resumed.curve
    ]
    assert not [n for n, v in state(whole).items() if v.is_floating_point() and torch.equal(v, before[n])]


def test_the_task_has_its_own_weights_in_checkpoint_and_optimizer(tmp_path: Path) -> None:
    trainer = trainer_of("faces", tmp_path)
    (centres,) = trainer.task.parameters()
    assert centres.shape == (16, 4)
    assert any(centres is p for p in trainer.optimizer.param_groups[0]["params"])
    trainer.save(tmp_path / "runs" / "0.pt", {"seed": 0})
    other = trainer_of("faces", tmp_path, seed=4)
    assert not torch.equal(next(other.task.parameters()), centres)
    other.restore(tmp_path / "runs" / "0.pt", {"seed": 0})
    assert torch.equal(next(other.task.parameters()), centres)
    assert not any(name.startswith("task") for name in trainer.model.state_dict())


def test_dropout_and_the_order_differ_from_epoch_to_epoch_and_seed_to_seed(tmp_path: Path) -> None:
    """The loss is of each step before it; with a rate of almost 0 it varies by chance alone."""
    losses = []
    for seed in (1, 1, 2):
        trainer = trainer_of("pixels", tmp_path, seed=seed, learning_rate=1e-12)
        losses.append([trainer.train_epoch().loss for _ in range(2)])
    assert losses[0] == losses[1]
    assert len({*losses[0], *losses[2]}) == 4


@pytest.mark.parametrize("task", ["streamed faces", "pixels"])
def test_training_is_the_same_with_workers_and_without(task: str, tmp_path: Path) -> None:
    one, two = trainer_of(task, tmp_path), trainer_of(task, tmp_path)
    two.data = replace(two.data, workers=2)
    assert one.train_epoch().loss == two.train_epoch().loss
    assert same(state(one), state(two))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_learns(task: str, tmp_path: Path) -> None:
    trainer = trainer_of(task, tmp_path, epochs=12, learning_rate=0.05, margin=0.1, logit_scale=10)
    losses = [trainer.train_epoch().loss for _ in range(12)]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_tasks_follow_the_data_and_the_recipe(tmp_path: Path) -> None:
    for name in ("faces", "pixels"):
        (tmp_path / name).mkdir()
    faces = trainer_of("faces", tmp_path / "faces", margin=0.2, logit_scale=12).task
    assert isinstance(faces, Recognition)
    assert (faces.am_softmax.margin, faces.am_softmax.scale) == (0.2, 12)
    pixels = trainer_of("pixels", tmp_path / "pixels")
    assert isinstance(pixels.task, Segmentation)
    result = pixels.train_epoch()
    assert set(result.details) == {"iou sky", "iou road", "iou car"}
    assert result.accuracy == pytest.approx(sum(result.details.values()) / 3)


@pytest.mark.parametrize("task", TASKS)
def test_a_converted_network_scores_as_the_trained_one_within_rounding(task: str, tmp_path: Path) -> None:
    trainer = trainer_of(task, tmp_path, batch=8, learning_rate=1e-3)
    for module in trainer.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of all steps, since they are few
    trainer.train_epoch()
    converted = convert(trainer.model)
    meter, error = trainer.compare(converted)
    scores = meter.compute()
    assert 0 < error <= 1e-5
    assert scores == trainer.evaluate(converted)
    assert scores == pytest.approx(trainer.evaluate(trainer.model), abs=0.1)
    assert trainer.compare(trainer.model)[1] == 0


def last_bias(model: nn.Module) -> torch.Tensor:
    """What is added to the outputs."""
    return (model.classifier if hasattr(model, "classifier") else model.head)[-1].bias.data


def largest(trainer: Trainer) -> float:
    """The largest output on the validation split."""
    with torch.inference_mode():
        return max(float(trainer.model.eval()(images).abs().max()) for images, _ in trainer.data.held_out())


@pytest.mark.parametrize("task", TASKS)
def test_a_wrong_conversion_is_seen_at_its_size(task: str, tmp_path: Path) -> None:
    trainer = trainer_of(task, tmp_path)
    trainer.train_epoch()
    converted = convert(trainer.model)
    last_bias(converted)[1] -= 0.01 * largest(trainer)
    assert trainer.compare(converted)[1] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_comparing_scores_the_converted_network_and_not_the_trained_one(task: str, tmp_path: Path) -> None:
    trainer = trainer_of(task, tmp_path)
    trainer.train_epoch()
    converted = convert(trainer.model)
    last_bias(converted)[0] += 10 * largest(trainer)
    meter, error = trainer.compare(converted)
    scores = meter.compute()
    assert error == pytest.approx(10, rel=1e-3)
    assert scores == trainer.evaluate(converted)
    if task == "classes":
        assert scores["accuracy"] == pytest.approx(100 / 3)
    if task == "pixels":
        assert (scores["iou road"], scores["iou car"]) == (0, 0)


@pytest.mark.parametrize("task", TASKS)
def test_outputs_that_are_not_finite_are_an_error(task: str, tmp_path: Path) -> None:
    trainer = trainer_of(task, tmp_path)
    last_bias(trainer.model)[0] = torch.nan
    with pytest.raises(DivergedError, match="an output on held-out images is not finite"):
        trainer.evaluate(trainer.model)
    last_bias(trainer.model)[0] = 0
    converted = convert(trainer.model)
    last_bias(converted)[0] = torch.inf
    with pytest.raises(DivergedError, match="an output on held-out images is not finite"):
        trainer.compare(converted)


def test_a_candidate_that_diverges_in_its_last_step_reports_so(tmp_path: Path) -> None:
    write_faces(tmp_path, rows_of_faces())
    data = FaceFolder(root=str(tmp_path), size=24, validation=0.34)
    # one step, whose loss is finite
    recipe = Recipe(epochs=1, batch=16, precision="float32", learning_rate=1e38, momentum=0)
    changes = {"config": config_to_dict(FACES), "data": data, "recipe": recipe, "measure": None}
    report = Candidate(task(tmp_path, **changes)).advance()
    assert report.failure == "Diverged: an output on held-out images is not finite; try a lower learning rate."


@pytest.mark.parametrize(
    ("fields", "rates"),
    [
        ({"schedule": "poly"}, {0: 1.0, 8: 0.75**0.9, 16: 0.5**0.9, 31: 0.03125**0.9}),
        ({"schedule": "poly", "warmup": 1}, {0: 0.125, 7: 1.0, 8: 1.0, 20: 0.5**0.9}),
        ({"schedule": "step"}, {0: 1.0, 19: 1.0, 20: 0.1, 27: 0.1, 28: 0.01, 30: 0.01, 31: 0.001}),
        ({"schedule": "step", "milestones": (0.25, 0.5)}, {7: 1.0, 8: 0.1, 15: 0.1, 16: 0.01, 31: 0.01}),
        ({"schedule": "step", "milestones": ()}, {0: 1.0, 31: 1.0}),
        ({"schedule": "step", "milestones": (0.5,), "warmup": 0.5}, {0: 0.25, 3: 1.0, 17: 1.0, 18: 0.1}),
    ],
)
def test_other_schedules_worked_out_by_hand(fields: dict, rates: dict[int, float]) -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"learning_rate": 1.0, **fields}), 0)  # 32 steps
    assert {step: trainer.learning_rate(step) for step in rates} == pytest.approx(rates)


def test_each_step_uses_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"schedule": "poly"}), 0)
    used, step = [], trainer.optimizer.step
    monkeypatch.setattr(
        trainer.optimizer, "step", lambda: (used.append([g["lr"] for g in trainer.optimizer.param_groups]), step())
    )
    for _ in range(4):
        trainer.train_epoch()
    assert used == [[trainer.learning_rate(i)] * 2 for i in range(32)]


class Spy(nn.Module):
    """Keeps what an objective is given."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective, self.seen = objective, []

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.append((images, targets))
        return self.objective(images, targets)


def test_mixup_mixes_images_and_labels_by_the_same_share() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"mixup": 0.4}), 0)
    trainer.objective = spy = Spy(trainer.objective)
    torch.manual_seed(0)
    shares = []
    for _ in range(20):
        images, labels = torch.randn(50, 1, 8, 8), torch.randint(10, (50,))
        labels[1] = (labels[0] + 1) % 10
        trainer.step(images, labels, 0.01)
        mixed, targets = spy.seen[-1]
        share = float(targets[1, labels[1]])
        torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))
        eye = torch.eye(10)
        torch.testing.assert_close(targets, share * eye[labels] + (1 - share) * eye[labels.roll(1)])
        shares.append(share)
    assert len(set(shares)) == 20
    assert min(shares) < 0.2 < 0.8 < max(shares)  # Beta(0.4, 0.4) is mostly near 0 and 1


def test_without_mixup_images_and_labels_are_left_as_they_are() -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE, 0)
    trainer.objective = spy = Spy(trainer.objective)
    images, labels = torch.randn(50, 1, 8, 8), torch.randint(10, (50,))
    trainer.step(images, labels, 0.01)
    assert spy.seen[0][0] is images
    assert spy.seen[0][1] is labels


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_smooths_labels_as_the_recipe_says(smoothing: float) -> None:
    trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"label_smoothing": smoothing}), 0)
    images, labels = torch.randn(50, 1, 8, 8), torch.randint(10, (50,))
    shares = torch.eye(10)[labels] * (1 - smoothing) + smoothing / 10
    expected = -(shares * trainer.model(images).log_softmax(1)).sum(1).mean().detach()
    torch.testing.assert_close(trainer.step(images, labels, 0.01), expected)


def moved(trainer: Trainer, learning_rate: float = 1.0) -> torch.Tensor:
    """How far the first batch moves all weights, those of the task too."""
    before = [p.detach().clone() for p in trainer.objective.parameters()]
    trainer.model.train()
    images, targets = next(trainer.data.batches(4, torch.Generator().manual_seed(0)))
    trainer.step(images, targets, learning_rate)
    return torch.cat([(p.detach() - b).flatten() for p, b in zip(trainer.objective.parameters(), before, strict=True)])


def test_the_gradient_of_all_weights_is_clipped(tmp_path: Path) -> None:
    plain = {"momentum": 0, "weight_decay": 0}
    free = moved(trainer_of("faces", tmp_path, **plain))
    norm = float(free.norm())
    for clip in (0.5 * norm, 2 * norm):
        found = moved(trainer_of("faces", tmp_path, **plain, clip=clip))
        assert float(found.norm()) == pytest.approx(min(clip, norm), rel=1e-3)
        assert float(torch.cosine_similarity(found, free, 0)) > 0.9999


def test_adamw_moves_each_weight_by_the_rate_and_decays_matrices_alone(tmp_path: Path) -> None:
    trainer = trainer_of("faces", tmp_path, optimizer="adamw", weight_decay=0.1)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.1, 0]
    parameters = list(trainer.objective.parameters())
    before = torch.cat([p.detach().flatten().clone() for p in parameters])
    decay = torch.cat([torch.full((p.numel(),), 0.1 if p.dim() > 1 else 0.0) for p in parameters])
    found = moved(trainer, learning_rate=1e-3)
    gradient = torch.cat([p.grad.flatten() for p in parameters])
    expected = -1e-3 * (gradient / (gradient.abs() + 1e-8) + decay * before)  # in Adam's first step m / sqrt(v) = sign
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_the_penalty_is_minimised_but_not_reported(tmp_path: Path) -> None:
    trainer = trainer_of("classes", tmp_path, fc3_penalty=0.01)
    images, targets = next(trainer.data.batches(4, torch.Generator().manual_seed(0)))
    loss, objective = trainer.objective(images, targets)
    expected = 0.01 * distance_penalty(trainer.model)
    assert float(expected.detach()) > 0
    torch.testing.assert_close(objective - loss, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(trainer.step(images, targets, 0.01), loss.detach(), rtol=1e-4, atol=1e-5)


def test_training_with_the_penalty_lowers_far_weights() -> None:
    far = []
    for factor in (0.0, 0.3):
        trainer = Trainer(CONFIG, DATA, RECIPE.model_copy(update={"fc3_penalty": factor}), 0)
        for _ in range(4):
            trainer.train_epoch()
        norms = torch.stack([distance_norms(m).detach() for m in trainer.model.modules() if hasattr(m, "merged_fc3")])
        far.append(float(norms[:, 1:].sum()))
    assert far[1] < 0.7 * far[0]


def test_a_batch_that_cannot_be_shared_or_filled_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.batch=500 exceeds the 400 training images"):
        Trainer(CONFIG, DATA, RECIPE.model_copy(update={"batch": 500}), 0)
    with pytest.raises(ValueError, match=r"training\.batch=50 cannot be shared by 4 workers evenly"):
        Trainer(CONFIG, DATA, RECIPE, 0, shard=(0, 4))


def test_a_face_network_scores_real_faces(lfw: Path) -> None:
    data = FaceFolder(root=str(lfw), size=24)
    trainer = Trainer(FACES, data, Recipe(batch=64, precision="float32"), 0)
    scores = trainer.evaluate(trainer.model)
    assert set(scores) == {"accuracy", "megaface", "verification"}
    assert 0 <= min(scores.values()) <= max(scores.values()) < 80
    assert scores["verification"] > 50


def test_a_segmentation_network_scores_real_scenes(camvid: Path) -> None:
    data = SegmentationFolder(root=str(camvid), size=16, resize=32, workers=0)
    trainer = Trainer(replace(PIXELS, classes=11), data, Recipe(batch=8, precision="float32"), 0)
    scores = trainer.evaluate(trainer.model)
    assert 0 <= scores["accuracy"] < 20
    assert len(scores) == 12
    assert scores["accuracy"] == pytest.approx(sum(v for k, v in scores.items() if k != "accuracy") / 11)
