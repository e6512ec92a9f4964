"""8-bit networks: what is quantized, on which images, and what accuracy is left."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from record.files import checked, read_study
from record.run import open_run
from record.study import StudyError
from repmlp import CifarNet, RepMLPBlock, Stage, build, convert
from search.data import load
from search.formats.onnx import Onnx
from search.formats.onnx_int8 import (
    BINS,
    POWERS,
    OnnxInt8,
    histograms,
    least_error,
    part_groups,
    prepared,
    quantize,
    ranges,
)
from search.training.int8 import accuracy_int8, calibration
from search.training.trainer import Trainer
from tests.driving import engine_of, work_off

GROUPS = 4
NETWORK = CifarNet(
    stages=(Stage(channels=16, blocks=1, block=RepMLPBlock(partition=4, groups=GROUPS, kernels=(1, 3))),),
    in_channels=1,
    size=(8, 8),
    classes=10,
)


def operators(path: Path) -> Counter[str]:
    """What onnxruntime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_each_group_of_an_fc3_is_a_product_of_its_own_with_the_same_outputs(tmp_path: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model, images = build(NETWORK, deploy=True).eval(), torch.randn(5, 1, 8, 8)
    Onnx().write(model, images, tmp_path / "exact.onnx")
    quant_pre_process(str(tmp_path / "exact.onnx"), str(tmp_path / "ready.onnx"))
    ready = onnx.load(tmp_path / "ready.onnx")
    before = Counter(node.op_type for node in ready.graph.node)
    part_groups(ready.graph)
    onnx.checker.check_model(ready)
    after = Counter(node.op_type for node in ready.graph.node)
    assert (before["MatMul"], after["MatMul"], after["Split"]) == (1, GROUPS, 1)
    session = onnxruntime.InferenceSession(ready.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, model(images).detach(), rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=200), st.integers(0, 3))
def test_a_range_leaves_no_more_error_than_the_whole_one(values: list[float], outliers: int) -> None:
    seen = torch.tensor([*values, *outliers * [1e3]])
    low, high = min(0.0, float(seen.min())), max(0.0, float(seen.max()))
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    counts = torch.histc(seen, BINS, low, high).double() if high > low else torch.zeros(BINS, dtype=torch.float64)
    chosen = least_error(counts, edges)
    assert low <= chosen[0] <= 0 <= chosen[1] <= high

    def error(ends: tuple[float, float]) -> float:
        step = (ends[1] - ends[0]) / 255 or 1.0
        return float((seen - ((seen.clamp(*ends) / step).round() * step)).abs().sum())

    assert error(chosen) <= error((low, high)) + len(seen) * (high - low) * (1 / BINS + 1 / 255)


def test_few_large_values_are_cut_off_rather_than_all_others_rounded_coarsely() -> None:
    seen = torch.cat([torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([1e4])])
    edges = torch.linspace(float(seen.min()), 1e4, 100 * BINS + 1, dtype=torch.float64)
    _, high = least_error(torch.histc(seen, 100 * BINS, float(seen.min()), 1e4).double(), edges)
    assert high < 1e4 / 2


def test_the_ranges_are_those_whose_outputs_are_nearest(tmp_path: Path) -> None:
    model, images = build(NETWORK, deploy=True).eval(), torch.randn(64, 1, 8, 8)
    Onnx().write(model, images[:2], tmp_path / "exact.onnx")
    ready, wanted = prepared(tmp_path / "exact.onnx"), model(images).detach()
    seen, cosines = histograms(ready, images), []
    for power in POWERS:
        quantize(ready, tmp_path / "one.onnx", ranges(seen, power))
        found = OnnxInt8().open(tmp_path / "one.onnx", 1)(images)
        cosines.append(float(torch.cosine_similarity(found, wanted, dim=1).mean()))
    OnnxInt8().write(model, images, tmp_path / "best.onnx")
    best = OnnxInt8().open(tmp_path / "best.onnx", 1)(images)
    assert float(torch.cosine_similarity(best, wanted, dim=1).mean()) == pytest.approx(max(cosines), abs=1e-6)


class Dead(nn.Module):
    """A network with an activation that is the same everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.dead, self.live = nn.Linear(64, 8), nn.Linear(64, 8)
        self.head = nn.Linear(8, 10)
        with torch.no_grad():
            self.dead.weight.zero_()
            self.dead.bias.fill_(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.head(self.dead(x).relu() + self.live(x).relu())


def test_an_activation_that_is_the_same_everywhere_has_a_range_too(tmp_path: Path) -> None:
    model, images = Dead().eval(), torch.randn(64, 1, 8, 8)
    OnnxInt8().write(model, images, tmp_path / "m.onnx")
    found, wanted = OnnxInt8().open(tmp_path / "m.onnx", 1)(images), model(images).detach()
    assert float((found - wanted).abs().max()) < 0.1 * float(wanted.abs().max())


def test_every_layer_with_weights_has_an_8_bit_kernel_and_any_batch_fits(tmp_path: Path) -> None:
    model = build(NETWORK, deploy=True).eval()
    OnnxInt8().write(model, torch.randn(64, 1, 8, 8), tmp_path / "m.onnx")
    found = operators(tmp_path / "m.onnx")
    assert found["QLinearMatMul"] + found["QGemm"] >= GROUPS + 2
    assert not {"MatMul", "Gemm", "Conv", "FusedConv", "FusedMatMul"} & set(found)
    run = OnnxInt8().open(tmp_path / "m.onnx", 1)
    images = torch.randn(7, 1, 8, 8)
    assert torch.allclose(torch.cat([run(image[None]) for image in images]), run(images))
    exact = model(images)
    gap = float((run(images) - exact).detach().abs().mean())
    assert 0 < gap < 0.2 * float(exact.detach().abs().mean())


def test_calibration_images_are_the_same_each_time_and_of_the_training_split(tiny: Path) -> None:
    source = load(read_study(tiny).data)
    images = calibration(source, 40)
    assert images.shape == (32, 1, 8, 8)  # whole batches
    assert torch.equal(images, calibration(source, 40))
    held = torch.cat([batch for batch, _ in source.held_out()])
    assert not any((image == other).all() for image in images for other in held)


@pytest.mark.parametrize("how", ["also=[accuracy_int8]", "objectives=[accuracy,accuracy_int8,macs]"])
def test_the_8_bit_accuracy_is_recorded_and_may_be_an_objective(tiny: Path, how: str) -> None:
    engine = engine_of(tiny, "trials=3", "halving={first_rung: 2, factor: 2}", how)
    work_off(engine)
    run = open_run(engine.study.folder)
    done = run.trials[run.trials["outcome"] == "complete"]
    assert len(done)
    assert done["accuracy_int8"].between(0, 100).all()
    assert (done["accuracy_int8"] - done["accuracy"]).abs().max() < 30
    told = [t.values for t in engine.journal.optuna.get_trials() if t.values]
    assert {len(values) for values in told} == {3 if "objectives" in how else 2}


def test_an_objective_that_only_the_end_tells_needs_a_cost_beside_it() -> None:
    with pytest.raises(StudyError, match="known at the end alone; name a cost too"):
        checked({"name": "s", "objectives": ["accuracy", "accuracy_int8"]})
    with pytest.raises(StudyError, match="also=macs is not there; there is accuracy_int8"):
        checked({"name": "s", "also": ["macs"]})
    with pytest.raises(StudyError, match="min_accuracy_int8 is not there"):
        checked({"name": "s", "limits": {"min_accuracy_int8": 3}})


def test_the_network_that_is_quantized_stays_as_it_is(tiny: Path) -> None:
    study = read_study(tiny)
    trainer = Trainer(NETWORK, study.data, study.training, 0)
    converted = convert(trainer.model).double()
    accuracy_int8(trainer, converted)
    assert {p.dtype for p in converted.parameters()} == {torch.double}
