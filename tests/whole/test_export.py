"""Exports of really trained networks: proved equal, loaded by processes that have nothing else, refused when wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import repmlp
from deploy import trained
from deploy.exporting import File, MismatchError, any_batch, as_recorded, proved, whole_folder, written
from deploy.verify import Agreement, first_off, verify
from record.run import RunError, open_run
from record.study import Study
from repmlp import RepMLPBlock, convert
from repmlp.config import ConvBlock
from repmlp.networks import NetworkConfig
from repmlp.networks.cifar import CifarNet, Stage
from repmlp.networks.mixer import MixerNet
from repmlp.networks.pspnet import pspnet
from repmlp.networks.resnet import ResNet, resnet
from search.data import load
from search.formats import FormatError, chosen
from search.formats.served import Served
from search.training.tasks import Classification
from tests.blocks import lived_in
from tests.conftest import ROOT
from tests.driving import analysis, engine_of, searched, work_off
from tests.sets import write_faces, write_segments

BLOCK = RepMLPBlock(partition=(4, 4), groups=2, kernels=((1, 1), (3, 3)))
NET = CifarNet(
    stages=(Stage(channels=4, blocks=1, block=ConvBlock()), Stage(channels=4, blocks=2, block=BLOCK)),
    in_channels=1,
    size=(16, 16),
    head=8,
)
STAGE = {"kind": "bottleneck", "r": 1, "repmlp": RepMLPBlock(partition=(4, 4), groups=2, kernels=((3, 3),))}
ABOUT = {"task": "classification", "shape": [1, 16, 16], "mean": [0.0], "std": [1.0], "classes": []}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one trial, exported in all formats that need no compiler."""
    folder = tmp_path_factory.mktemp("exported")
    study = folder / "tiny.yaml"
    study.write_text(
        f"""
        name: tiny
        runs: {folder}
        data: {{name: mnist5k, size: 8, train_images: 400, validation: 0.25, pad: 1}}
        space:
          name: fixed
          networks:
            it:
              kind: cifar
              head: 16
              stages: [{{channels: 8, blocks: 1, block: {{kind: repmlp, partition: 4, groups: 2, kernels: [1, 3]}}}}]
        seeds: 1
        training: {{epochs: 2, batch: 25, precision: float32, learning_rate: 0.05}}
        measure: {{batch: 8, seconds: 0.02, confirm: false}}
        """
    )
    work_off(engine_of(study))
    done = analysis("export", folder / "tiny")
    assert done.exit_code == 0, done.stderr
    assert "model.onnx" in done.stdout
    return folder / "tiny"


def held_out(run: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return load(Study.model_validate(open_run(str(run)).study).data).held_out()


def alone(code: str, absent: str, **files: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that cannot import the packages in `absent`."""
    block = f"import sys; sys.modules.update(dict.fromkeys({absent.split()!r}))\n"
    names = "".join(f"{name} = {str(path)!r}\n" for name, path in files.items())
    line = [sys.executable, "-c", block + names + code]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env={**os.environ}, timeout=120)


def test_every_file_agrees_with_the_trained_network(exported: Path) -> None:
    record = json.loads((exported / "export" / "export.json").read_text())
    assert list(record) == ["trained", "converted", "safetensors", "onnx", "pt2"]
    for name, of_file in record.items():
        assert of_file["max_error"] <= (1e-5 if name in ("converted", "safetensors") else 1e-4)
        assert of_file["same_top1"] == 100
        assert of_file["throughput"]["8"]["p10"] <= of_file["throughput"]["8"]["p90"]
    assert record["converted"]["max_error"] > 0
    trial = open_run(str(exported)).trials.loc[0]
    assert record["converted"]["accuracy"] == pytest.approx(trial["accuracy"])


OF_FACES = """
    data: {name: face_folder, size: 24, pad: 2, validation: 0.34, workers: 0, root: ROOT}
    space:
      name: fixed
      networks:
        small: {build: face_resnet, width: 0.125, classes: 16, stages: {c3: {kind: bottleneck, r: 2,
          repmlp: {partition: 3, groups: 2, kernels: [1, 3]}}}}
"""
OF_SCENES = """
    data: {name: segmentation_folder, size: 32, resize: 32, workers: 0, root: ROOT}
    space:
      name: fixed
      networks:
        small: {build: pspnet, width: 0.125, stages: {c4: {kind: bottleneck, r: 2,
          repmlp: {partition: 2, groups: 2, kernels: [1]}}}}
"""


@pytest.mark.parametrize(
    ("write", "text", "agreement", "title"),
    [
        (write_faces, OF_FACES, "cosine", "least cosine"),
        (write_segments, OF_SCENES, "iou", "mIoU to trained (%)"),
    ],
)
def test_embeddings_and_label_maps_agree_in_their_own_terms(
    tmp_path: Path, write: Callable[[Path], Path], text: str, agreement: str, title: str
) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    for known in (tmp_path / "data").glob("val*"):
        shutil.copytree(known, known.with_name(known.name.replace("val", "test")))
    study = tmp_path / "own.yaml"
    rest = "training: {epochs: 1, batch: 4}\nmeasure: {batch: 2, seconds: 0.02}\nobjectives: [accuracy, throughput]\n"
    rest += f"seeds: 1\nresources: {{concurrent: 1, backend: local}}\nruns: {tmp_path}\n"
    text = textwrap.dedent(text).replace("ROOT", str(tmp_path / "data"))
    study.write_text(f"name: own{text}{rest}")
    trained = searched(study)
    assert trained.exit_code == 0, trained.output
    result = analysis("export", tmp_path / "own", "--format", "onnx,onnx-int8", "--out", tmp_path / "export")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "export" / "export.json").read_text())
    assert record["onnx"][agreement] == pytest.approx({"cosine": 1, "iou": 100}[agreement], rel=1e-4)
    assert record["trained"]["accuracy"] == pytest.approx(record["onnx"]["accuracy"], abs=0.5)
    assert record["onnx-int8"][agreement] < record["onnx"][agreement]
    assert (record["onnx"]["same_top1"] is None) == (agreement == "cosine")
    assert agreement[-3:] in (tmp_path / "export" / "README.md").read_text().lower()


def test_who_may_read_the_configuration_may_read_the_weights(exported: Path) -> None:
    config, weights = (exported / "export" / name for name in ("config.json", "model.safetensors"))
    assert weights.stat().st_mode == config.stat().st_mode


def test_the_card_tells_what_was_measured(exported: Path) -> None:
    text = (exported / "export" / "README.md").read_text()
    trial = open_run(str(exported)).trials.loc[0]
    assert f"{trial['params']:,}" in text
    assert f"accuracy on 100 validation images | {trial['accuracy']:.2f} % (95 % interval" in text
    assert f"accuracy on the test images | {trial['test']:.2f} % (95 % interval" in text
    assert "| model.onnx | onnxruntime |" in text


def pictures(run: Path, folder: Path) -> list[Path]:
    """Write the test images of a run as files NUMBER-LABEL.png, of the size that its networks take."""
    source = load(Study.model_validate(open_run(str(run)).study).data)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in source.normalisation)
    written = []
    for images, labels in source.test():
        for image, label in zip(images, labels, strict=True):
            pixels = (image * std + mean).round().to(torch.uint8)[0].numpy()
            written.append(folder / f"{len(written)}-{int(label)}.png")
            Image.fromarray(pixels).save(written[-1])
    return written


def snippets(text: str) -> dict[str, str]:
    """Return the blocks of Python in Markdown by what they load."""
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    known = {"repmlp.load": "safetensors", "InferenceSession": "onnx", "torch.export.load": "pt2"}
    return {name: block for block in blocks for mark, name in known.items() if mark in block}


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("safetensors", "torchvision ray optuna pandas onnx onnxruntime"),
        ("onnx", "torch torchvision ray optuna pandas onnx repmlp"),
        ("pt2", "torchvision ray optuna pandas onnxruntime repmlp"),
    ],
)
def test_the_snippets_of_the_card_tell_what_an_image_file_shows_where_nothing_else_is_installed(
    exported: Path, tmp_path: Path, name: str, absent: str
) -> None:
    folder = exported / "export"
    file = pictures(exported, tmp_path)[3]
    code = snippets((folder / "README.md").read_text())[name]
    done = alone(code, absent, FOLDER=folder, IMAGE=file)
    assert done.returncode == 0, done.stderr + code
    source = load(Study.model_validate(open_run(str(exported)).study).data)
    image = next(source.test())[0][3:4]
    expected = int(trained(open_run(exported), 0)(image).argmax())
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize("name", ["safetensors", "onnx"])
def test_the_snippets_of_the_readme_run(exported: Path, tmp_path: Path, name: str) -> None:
    code = snippets((ROOT / "README.md").read_text())[name]
    code = code.replace('"runs/default-pick/export', 'FOLDER + "').replace(
        "digit.png", str(pictures(exported, tmp_path)[0])
    )
    done = alone(code.replace("16", "8") + "assert outputs.shape == (1, 10)", "ray optuna", FOLDER=exported / "export")
    assert done.returncode == 0, done.stderr + code


def test_the_test_images_as_files_have_exactly_the_accuracy_of_the_card_without_this_package_and_torch(
    exported: Path, tmp_path: Path
) -> None:
    files = pictures(exported, tmp_path)
    code = """
import numpy as np
import onnxruntime
from pathlib import Path
from PIL import Image

session = onnxruntime.InferenceSession(FOLDER + "/model.onnx")
files = sorted(Path(IMAGES).glob("*.png"))
right = 0
for file in files:
    image = np.array(Image.open(file))
    (outputs,) = session.run(None, {"images": image.reshape(1, *image.shape, 1)})
    right += int(outputs[0].argmax()) == int(file.stem.split("-")[1])
print(len(files), right)
"""
    absent = "torch torchvision ray optuna pandas onnx repmlp search record"
    done = alone(code, absent, FOLDER=exported / "export", IMAGES=tmp_path)
    assert done.returncode == 0, done.stderr
    count, right = map(int, done.stdout.split())
    trial = open_run(str(exported)).trials.loc[0]
    assert count == len(files) == trial["test_images"]
    assert 100 * right / count == pytest.approx(trial["test"], abs=1e-9)
    assert f"accuracy on the test images | {100 * right / count:.2f} %" in (exported / "export/README.md").read_text()


def test_files_say_what_they_take_and_hold_no_path_of_this_machine(exported: Path) -> None:
    folder = exported / "export"
    metadata = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert metadata["input"] == "uint8 (N, H, W, C)"
    assert json.loads(metadata["shape"]) == [1, 8, 8]
    extra = {"metadata.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"]) == metadata
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [
            word for word in (str(ROOT), sys.prefix, "site-packages", str(exported)) if word.encode() in content
        ]


def test_normalisation_may_stay_outside(exported: Path, tmp_path: Path) -> None:
    run = open_run(exported)
    run.export(tmp_path / "out", ["onnx"], pixels=False)
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    images, _ = next(held_out(exported))
    (outputs,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(outputs, trained(run, 0)(images).detach(), rtol=1e-3, atol=1e-4)
    assert "float32 `(N, 1, 8, 8)`" in (tmp_path / "out/README.md").read_text()


def test_what_is_not_made_of_pixels_is_not_taken_for_them() -> None:
    served = Served(torch.nn.Identity(), ABOUT, pixels=True)
    assert served.given(torch.full((1, 1, 2, 2), 3.0)).dtype == torch.uint8
    for wrong in (0.5, -1.0, 300.0, float("nan")):
        with pytest.raises(FormatError, match="--input float32"):
            served.given(torch.full((1, 1, 2, 2), wrong))


def test_a_network_that_is_not_as_accurate_as_recorded_is_not_exported() -> None:
    as_recorded(90.0, 90.4)
    for recorded in (91.0, float("nan")):
        with pytest.raises(MismatchError, match="are recorded: weights or images have changed"):
            as_recorded(90.0, recorded)


def test_weights_of_over_two_gigabytes_lie_beside_the_onnx_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.formats.onnx.LARGEST", 1000)
    served = Served(convert(trained_net(NET)), ABOUT, pixels=True).eval()
    images = torch.randint(0, 255, (2, 16, 16, 1), dtype=torch.uint8)
    chosen(["onnx"])["onnx"].write(served, images, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size > 1000
    run = chosen(["onnx"])["onnx"].open(tmp_path / "model.onnx", 1)
    assert torch.allclose(run(images), served(images), atol=1e-5)


def test_a_run_loads_its_best_network_converted(exported: Path) -> None:
    run = open_run(exported)
    images, _ = next(held_out(exported))
    loaded, kept = run.load(), trained(run, 0)
    assert sum(p.numel() for p in loaded.parameters()) == run.trials["params"][0]
    expected = kept(images).detach()
    torch.testing.assert_close(loaded(images).detach(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(run.load(best=True)(images), run.load(0)(images), rtol=0, atol=0)
    with pytest.raises(RunError, match="give one of them"):
        run.load(0, best=True)
    with pytest.raises(RunError, match="trial 9 is not in this run"):
        run.load(9)


def test_a_format_of_ones_own_is_proved_and_told_as_any_other(exported: Path, tmp_path: Path) -> None:
    table = open_run(exported).export(tmp_path / "out", ["tests.own_formats:Script"])
    assert table["network"].tolist() == ["trained", "converted", "model.safetensors", "model.script"]
    assert "TorchScript:" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(MismatchError, match=r"model\.script is off by"):
        open_run(exported).export(tmp_path / "wrong", ["tests.own_formats:Doubled"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def trained_net(config: NetworkConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    return lived_in(repmlp.build(config)).eval()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(6, 1, 16, 16, generator=generator), torch.arange(6)) for _ in range(2)]


@pytest.mark.parametrize("layer", ["stages.0.0.0", "stages.1.0.0", "stages.1.2.0", "head.4"])
def test_a_wrong_conversion_names_its_first_wrong_layer(layer: str) -> None:
    trained = trained_net(NET)
    converted = convert(trained)
    module = converted.get_submodule(layer)
    with torch.no_grad():
        (module.fc3 if hasattr(module, "fc3") else module).bias += 1.0
    wrong = {"stages.0.0.0": "stages.0.0.1"}.get(layer, layer)  # a convolution is compared behind its BN
    assert first_off(trained, converted, batches()[0][0], 1e-5)[0] == wrong
    with pytest.raises(MismatchError, match=rf"first layer that is off is {re.escape(wrong)}, by"):
        proved({}, trained, converted, {}, batches, Classification().meter, True)


def test_the_layer_is_looked_for_where_the_outputs_differ_most() -> None:
    trained = trained_net(NET)
    converted = convert(trained)
    with torch.no_grad():
        converted.get_submodule("embed.0").weight *= 1.5  # which black images do not show
    black, white = (torch.zeros(2, 1, 16, 16), torch.zeros(2)), (torch.ones(2, 1, 16, 16), torch.zeros(2))
    with pytest.raises(MismatchError, match=r"first layer that is off is embed\.1, by"):
        proved({}, trained, converted, {}, lambda: [black, white, black], Classification().meter, True)


def test_a_file_that_disagrees_is_named(tmp_path: Path) -> None:
    trained = trained_net(NET)
    converted = convert(trained)
    other = {"onnx": File(lambda images: converted(images) * 1.001, torch.clone)}
    with pytest.raises(MismatchError, match=r"model.onnx is off by 1.0e-03 .* though the conversion is right"):
        proved(chosen(["onnx"]), trained, converted, other, batches, Classification().meter, True)
    with pytest.raises(MismatchError, match=r"model.onnx is off by 1.0e-03 for 1 images at once"):
        any_batch(chosen(["onnx"]), other, converted, batches()[0][0])


def test_agreement_is_what_its_names_say() -> None:
    one = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    two = torch.tensor([[1.0, 0.5], [3.0, 1.0]])
    networks: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"a": lambda _: one, "b": lambda _: two}
    found = verify(networks, [(torch.zeros(2, 1), torch.tensor([1, 1]))], Classification().meter, classes=True)
    beside = found["b"].trained
    assert (beside.max_error, beside.mean_error, beside.top1) == (1.5 / 3, (0 + 1.5 + 0 + 1) / 4 / 3, 50)
    assert (found["a"].accuracy, found["b"].accuracy) == (50, 0)
    assert found["b"].converted.max_error == 0


def test_every_label_counts_but_only_pixels_of_a_class() -> None:
    logits = torch.eye(300)[torch.tensor([255, 1])]
    networks: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "a": lambda _: logits,
        "b": lambda _: logits * torch.tensor([[-1.0], [1.0]]),
    }
    found = verify(networks, [(torch.zeros(2, 1), torch.tensor([255, 1]))], Classification().meter, classes=True)
    assert found["b"].trained.top1 == 50
    maps, ignored = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 255], [255, 255]]])
    other = {"a": lambda _: maps, "b": lambda _: torch.where(ignored[:, None] == 255, -maps, maps)}
    found = verify(other, [(torch.zeros(1, 1), ignored)], Classification().meter, classes=True)
    assert (found["b"].trained.top1, found["b"].trained.judged) == (100, 1)


def test_networks_that_are_dead_alike_agree() -> None:
    dead, alive = Agreement(), Agreement()
    dead.add(torch.zeros(2, 2), torch.zeros(2, 2), None)
    alive.add(torch.ones(2, 2), torch.zeros(2, 2), None)
    assert (dead.max_error, dead.mean_error, alive.max_error) == (0, 0, float("inf"))


def test_an_output_that_is_not_a_number_is_no_agreement() -> None:
    networks: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "a": lambda _: torch.ones(2, 2),
        "b": lambda _: torch.full((2, 2), torch.nan),
    }
    found = verify(networks, [(torch.zeros(2, 1), torch.tensor([1, 1]))], Classification().meter, classes=True)
    assert found["b"].trained.max_error == float("inf")


def short(network: ResNet) -> ResNet:
    """Leave a stage its first block, and one that RepMLP may replace."""
    return replace(network, stages=tuple(replace(s, blocks=1 + (s.kind != "plain")) for s in network.stages))


PSPNET = pspnet((64, 64), 5, {"c3": STAGE}, 0.125, 16)
KINDS = {
    "resnet": (short(resnet(50, {"c3": STAGE}, width=0.125, stem="small", size=(32, 32), classes=5)), (3, 32, 32)),
    "pspnet": (replace(PSPNET, backbone=short(PSPNET.backbone)), (3, 64, 64)),
    "mixer": (
        MixerNet(
            style="mixer", patch=4, channels=8, blocks=1, channel_hidden=8, token_hidden=8, size=(16, 16), classes=5
        ),
        (3, 16, 16),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind_take_batches_of_any_size_in_both_runtimes(kind: str, tmp_path: Path) -> None:
    """As that of `exported` does."""
    config, shape = KINDS[kind]
    converted = convert(trained_net(config))
    images = torch.randn(5, *shape)
    formats = chosen(["onnx", "pt2"])
    about = {**ABOUT, "shape": list(shape), "mean": [0.0] * shape[0], "std": [1.0] * shape[0]}
    images = images.mul(40).round().add(100).clamp(0, 255)
    files = written(
        tmp_path, formats, config.canonical(), Served(converted, about, True).eval(), (images[:2], images), 1
    )
    any_batch(formats, files, converted, images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trial", 9], "is not in this run"),
        (
            ["--format", "tflite"],
            "tflite is not a list such as safetensors,onnx,pt2: must be one of aoti, onnx, onnx-int8, pt2, safe",
        ),
    ],
)
def test_what_cannot_be_exported_is_said(exported: Path, arguments: list[object], message: str) -> None:
    done = analysis("export", exported, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("error:") == 1


def test_damaged_weights_export_nothing(exported: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(exported, run, ignore=shutil.ignore_patterns("export*"))
    path = run / "weights" / "0.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    cut = analysis("export", run)
    assert (cut.exit_code, "damaged or truncated" in cut.stderr) == (2, True), cut.stderr
    save_file({"x": torch.zeros(1)}, path)
    other = analysis("export", run)
    assert (other.exit_code, "does not hold the network of trial 0" in other.stderr) == (2, True), other.stderr
    path.unlink()
    none = analysis("export", run)
    assert (none.exit_code, "has no trained weights" in none.stderr) == (2, True), none.stderr
    assert not list(run.glob("export*"))
    assert "Traceback" not in cut.stderr + other.stderr + none.stderr


def test_a_folder_with_other_files_is_left_alone(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    done = analysis("export", exported, "--out", tmp_path, "--format", "safetensors")
    assert (done.exit_code, "holds other files" in done.stderr) == (2, True), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    again = analysis("export", exported, "--out", tmp_path / "new", "--format", "safetensors")
    once_more = analysis("export", exported, "--out", tmp_path / "new", "--format", "safetensors")
    assert (again.exit_code, once_more.exit_code) == (0, 0)
    (tmp_path / "new" / "notes.txt").write_text("kept")
    noted = analysis("export", exported, "--out", tmp_path / "new", "--format", "safetensors")
    assert (noted.exit_code, "such as notes.txt" in noted.stderr) == (2, True), noted.stderr
    assert (tmp_path / "new" / "notes.txt").read_text() == "kept"


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(folder: Path, name: str, text: str, fails: bool = False) -> None:
    """Export one file, and fail behind it or not."""
    with whole_folder(folder, {}) as part:
        (part / name).write_text(text)
        if fails:
            raise MismatchError


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    put(tmp_path / "export", "config.json", "first")
    with pytest.raises(MismatchError):
        put(tmp_path / "export", "config.json", "second", fails=True)
    assert files(tmp_path) == {"export/config.json": "first"}
    put(tmp_path / "export", "model.onnx", "third")
    assert files(tmp_path) == {"export/model.onnx": "third"}


def test_what_a_killed_export_left_is_cleared_away(tmp_path: Path) -> None:
    for name in ("export.part", "export.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    with pytest.raises(MismatchError):
        put(tmp_path / "export", "config.json", "new", fails=True)
    assert files(tmp_path) == {"export/config.json": "export.old"}


def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("..")):
        with pytest.raises(FormatError, match="is where you are"):
            put(folder, "config.json", "new")


def test_formats_are_given_as_a_list() -> None:
    assert list(chosen(["onnx", " pt2"])) == ["safetensors", "onnx", "pt2"]
    assert list(chosen(["safetensors"])) == ["safetensors"]
    with pytest.raises(FormatError, match="is not a list such"):
        chosen([""])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"must hold config\.json and model\.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "damaged or truncated"),
        (lambda folder: (folder / "config.json").write_text('{"format": 2}'), "is not of format 1"),
        (lambda folder: (folder / "config.json").write_text('{"format": 1}'), "does not describe a network"),
        (lambda folder: (folder / "config.json").write_text('{"format": 1, "network": 3}'), "does not describe"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"123"), "damaged or truncated"),
        (lambda folder: save_file({"x": torch.zeros(1)}, folder / "model.safetensors"), "does not hold the network"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_said(
    exported: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported / "export", folder)
    repmlp.load(folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        repmlp.load(folder)
