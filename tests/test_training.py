from dataclasses import replace
from pathlib import Path

import pytest
import torch

from repmlp import CifarNet, RepMLPBlock, Stage, config_to_dict
from search.candidate import Candidate, Job
from search.data import DataConfig
from search.throughput import MeasureConfig, measure
from search.training import DivergedError, Recipe, Trainer

DATA = DataConfig(size=8, train_images=500, validation=0.2, pad=1)
RECIPE = Recipe(epochs=4, batch=50, bf16=False, learning_rate=0.05)
CONFIG = CifarNet(
    stages=(Stage(channels=8, blocks=1, block=RepMLPBlock(partition=4, groups=2, kernels=(1, 3))),),
    in_channels=1,
    size=8,
    head=16,
)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.model.state_dict()


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
    whole.save(tmp_path / "2.pt")
    resumed = Trainer(CONFIG, DATA, RECIPE, 3)
    resumed.restore(tmp_path / "2.pt")
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
    config = replace(CONFIG, size=16, stages=(Stage(channels=16, block=RepMLPBlock(partition=8, kernels=(1, 3))),))
    trainer = Trainer(config, DataConfig(size=16), Recipe(epochs=5, batch=50, learning_rate=0.05), 0)
    assert [trainer.train_epoch().accuracy for _ in range(5)][-1] > 80


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
    measure = MeasureConfig(batch=8, seconds=0.02)
    fields = {"number": 7, "config": config_to_dict(CONFIG), "seed": 0, "data": DATA, "recipe": RECIPE, "rungs": (1, 3)}
    fields |= {"measure": measure, "device": "cpu", "threads": 1, "folder": str(folder)}
    return Job(**{**fields, **changes})


def test_a_candidate_measures_trains_converts_and_keeps_its_weights(tmp_path: Path) -> None:
    candidate = Candidate(task(tmp_path))
    reports = [candidate.advance() for _ in range(5)]
    assert reports[0].throughput.p10 <= reports[0].throughput.median <= reports[0].throughput.p90
    assert [r.epoch.epoch for r in reports[1:]] == [1, 2, 3, 4]
    assert [r.last for r in reports] == [False] * 4 + [True]
    assert reports[-1].final.conversion_error <= 1e-5
    assert reports[-1].final.accuracy == pytest.approx(reports[-1].epoch.accuracy, abs=1)
    assert (tmp_path / "weights" / "7.safetensors").is_file()


def test_a_candidate_resumes_from_its_last_rung(tmp_path: Path) -> None:
    first = Candidate(task(tmp_path, measure=None))
    whole = [first.advance() for _ in range(2)]
    second = Candidate(task(tmp_path, measure=None))
    assert second.advance().epoch.epoch == 2
    assert second.trainer.curve[0] == whole[0].epoch


def test_a_diverged_candidate_reports_its_reason(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30})
    report = Candidate(task(tmp_path, measure=None, recipe=recipe)).advance()
    assert report.last
    assert report.failure.startswith("Diverged: the training loss became")


def test_throughput_counts_images_per_second() -> None:
    class Slow(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            import time

            time.sleep(0.005)
            return x

    found = measure(Slow(), (1, 2, 2), MeasureConfig(batch=10, seconds=0.1), "cpu")
    assert 1000 < found.median <= 2000
    assert found.samples >= 10


def test_a_conversion_beyond_tolerance_fails_the_trial_and_keeps_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.candidate.TOLERANCE", -1.0)
    candidate = Candidate(task(tmp_path, measure=None, recipe=RECIPE.model_copy(update={"epochs": 1})))
    report = candidate.advance()
    assert report.failure.startswith("Conversion: converted and trained outputs differ by")
    assert not list(tmp_path.rglob("*.safetensors"))
