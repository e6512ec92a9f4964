"""Networks measured in every runtime that is here, and what else is measured of them."""

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from record.measure import Measurement, Point
from repmlp import CifarNet, ConvBlock, RepMLPBlock, Stage, build
from search.measuring import energy
from search.measuring.energy import Rapl
from search.measuring.locks import DeviceLock
from search.measuring.points import KEPT, measure, measured
from search.measuring.runtimes import RUNTIMES, MeasureError, Subject, named
from tests.conftest import ROOT

SHAPE = (3, 8, 8)
NETWORK = CifarNet(
    stages=(Stage(channels=8, blocks=1, block=RepMLPBlock(partition=4, groups=2, kernels=(1, 3))),),
    in_channels=3,
    size=(8, 8),
    classes=10,
)
PLAIN = CifarNet(stages=(Stage(channels=8, blocks=1, block=ConvBlock()),), in_channels=3, size=(8, 8), classes=10)
PROGRAM = shlex.join([sys.executable, str(ROOT / "examples/measure_command.py")])
EXAMPLE = PROGRAM + " {file} {samples} {batch}"


OTHERS = [("onnx", "float32"), ("openvino", "float32"), ("openvino", "int8")]


def at(**values: object) -> Measurement:
    point = Point.model_validate({"batch": 2, "seconds": 0.02, **values})
    return measured(NETWORK, PLAIN, {"p": point})["p"]


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(text)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{file}} {{samples}}"


@pytest.mark.parametrize(
    ("runtime", "dtype"),
    [
        ("torch", "float32"),
        ("onnx", "int8"),
        *(pytest.param(*kind, marks=pytest.mark.slow) for kind in OTHERS),
    ],
)
def test_each_runtime_gives_speed_latency_and_a_ratio(runtime: str, dtype: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    found = at(runtime=runtime, dtype=dtype, also=["latency_p99", "size", "peak_memory"])
    assert (found.runtime, found.dtype, found.batch, found.device) == (runtime, dtype, 2, "cpu")
    assert found.calls >= 400
    assert found.latency_p50 <= found.latency_p99_low <= found.latency_p99 <= found.latency_p99_high
    assert found.relative is not None
    assert found.median == pytest.approx(2000 / found.latency_p50, rel=0.5)
    assert 1e3 < found.others["size"] < 1e6
    assert 1e4 < found.others["peak_memory"] < 2e8


def test_the_size_is_that_of_the_file(tmp_path: Path) -> None:
    exact, small = (at(runtime="onnx", dtype=d, also=["size"]).others["size"] for d in ("float32", "int8"))
    assert small < exact
    weights = at(also=["size"]).others["size"]
    parameters = sum(p.numel() for p in build(NETWORK, deploy=True).parameters())
    assert 4 * parameters < weights < 4 * parameters + 5000
    assert at(dtype="bfloat16", also=["size"]).others["size"] == pytest.approx(weights - 2 * parameters, abs=500)


@pytest.mark.slow
def test_memory_grows_with_the_batch_and_holds_the_weights() -> None:
    small, large = (at(batch=b, also=["peak_memory"]).others["peak_memory"] for b in (1, 4096))
    assert large - small > 4 * 4095 * 8 * 8 * 8  # the output of the first layer


def test_a_file_is_written_once_for_all_points_and_the_reference_once_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[object] = []
    export: Callable[..., object] = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: (written.append(a), export(*a, **k)))
    KEPT.clear()
    points = {str(b): Point(batch=b, seconds=0.01, runtime="onnx") for b in (1, 3)}
    measured(NETWORK, PLAIN, points)
    assert len(written) == 2
    measured(NETWORK, PLAIN, points)
    assert len(written) == 3


def test_a_program_of_ones_own_is_told_the_file_and_the_number_of_samples() -> None:
    found = at(runtime="command", command=EXAMPLE, also=["latency_p99", "size"])
    assert found.samples >= 10
    assert found.calls >= 400
    assert found.latency_p99 >= found.latency_p50 > 0
    assert found.relative is not None
    assert found.others["size"] > 1e3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit('no such board')", "ended with exit code 1: no such board"),
        ("print('ready')", "must print the seconds of 2 batches as a JSON list in its last line"),
        ("print('[0.1]')", r"such as \[0.012, 0.011\]; it printed \[0.1\]"),
        ("print('[0.1, -1]')", "must print"),
        ("print('[0.1, true, {}]')", "must print"),
        ("", "printed nothing"),
        ("import time; time.sleep(9)", "took more than timeout=0.5 s"),
    ],
)
def test_a_program_that_fails_says_how(tmp_path: Path, text: str, message: str) -> None:
    command = program(tmp_path, text)
    with pytest.raises(MeasureError, match=message):
        at(runtime="command", command=command, timeout=0.5 if "sleep" in text else 60, retries=0)


def test_a_program_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    text = """
import json, pathlib, sys
seen = pathlib.Path(__file__).with_name("seen")
if not seen.exists():
    seen.touch()
    sys.exit("busy")
print(json.dumps([0.001] * int(sys.argv[2])))
"""
    found = at(runtime="command", command=program(tmp_path, text), retries=1)
    assert found.median == pytest.approx(2000)
    assert found.spread == pytest.approx(0)


def test_a_target_of_a_program_is_nobody_elses_device(tmp_path: Path) -> None:
    command = program(tmp_path, "import json, sys; print(json.dumps([0.001] * int(sys.argv[2])))")
    with DeviceLock("cpu").shared():  # a trial that trains here is not in its way
        assert at(runtime="command", command=command, device="phone").device == "phone"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runtime": "cuda-graph"}, "cuda-graph needs a GPU"),
        ({"runtime": "tensorrt"}, "onnxruntime has no TensorrtExecutionProvider"),
        ({"runtime": "onnx", "device": "cuda"}, "onnxruntime has no CUDAExecutionProvider"),
        ({"runtime": "openvino", "device": "cuda"}, "runs on the CPU here"),
        ({"runtime": "command", "command": "true", "also": ["peak_memory"]}, "must print"),
    ],
)
def test_what_is_not_here_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        at(retries=0, **values)


def zones(folder: Path, **zones: tuple[int, str]) -> Path:
    """Write RAPL zones as Linux has them: energy in microjoules, and what is counted."""
    for name, (counted, what) in zones.items():
        zone = folder / name.replace("_", ":")
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "energy_uj").write_text(f"{counted}\n")
        (zone / "max_energy_range_uj").write_text("1000000\n")
        (zone / "name").write_text(f"{what}\n")
    return folder


def test_energy_is_that_of_packages_and_memory_and_goes_on_where_a_counter_starts_again(tmp_path: Path) -> None:
    both = {"intel-rapl_0_0": (5, "core"), "intel-rapl_0_1": (2_000, "dram")}
    joules = Rapl(zones(tmp_path, **{"intel-rapl_0": (900_000, "package-0"), **both}))
    before = joules()
    zones(tmp_path, **{"intel-rapl_0": (100_000, "package-0"), **both, "intel-rapl_0_1": (5_000, "dram")})
    assert joules() - before == pytest.approx(0.203)
    assert joules() - before == pytest.approx(0.203)


def test_the_energy_of_a_platform_counts_its_packages_once(tmp_path: Path) -> None:
    joules = Rapl(zones(tmp_path, **{"intel-rapl_0": (3, "package-0"), "intel-rapl_1": (7_000_000, "psys")}))
    assert joules() == 7


def test_energy_an_image_is_what_a_meter_tells_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "WINDOW", 0.1)
    monkeypatch.setattr(energy, "meter", lambda _: lambda: 10 * time.perf_counter())  # 10 W
    found = at(also=["energy"])
    assert found.others["energy_low"] <= found.others["energy"] <= found.others["energy_high"]
    assert found.others["energy"] == pytest.approx(10 / found.median, rel=0.5)


def test_energy_without_a_meter_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    with pytest.raises(MeasureError, match="has no RAPL zone of a package"):
        at(also=["energy"])
    with pytest.raises(MeasureError, match="no meter for phone"):
        energy.meter("phone")


def test_a_runtime_is_found_by_name_or_path() -> None:
    assert {named(name) for name in RUNTIMES} == {named(path) for path in RUNTIMES.values()}
    for wrong in ("torchscript", "repmlp:build", "nowhere.at:All"):
        with pytest.raises(ValueError, match=r"runtime|imported"):
            named(wrong)


def test_a_runtime_of_ones_own_measures(tmp_path: Path) -> None:
    found = at(runtime="tests.own_runtimes:Twice")
    assert found.runtime == "tests.own_runtimes:Twice"
    once = measure(build(NETWORK, True), SHAPE, Point(batch=2, seconds=0.05))
    assert found.median < once.median
    subject = Subject(build(NETWORK, True), SHAPE, Point(runtime="tests.own_runtimes:Twice"), tmp_path)
    with pytest.raises(MeasureError, match="has no file"):
        _ = subject.file


def test_a_network_that_cannot_be_exported_says_why() -> None:
    class Branches(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * 2 if images.sum() > 0 else images

    with pytest.raises(MeasureError, match="the network cannot be exported: "):
        measure(Branches(), SHAPE, Point(batch=2, seconds=0.02, runtime="onnx"))
