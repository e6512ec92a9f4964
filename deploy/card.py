"""The model card: README.md of an exported network."""

import platform
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, cast

import jinja2
import pandas as pd

from deploy.verify import Verified
from record.run import Run
from record.same import plain
from repmlp import config_from_dict
from results.statistics import accuracy_interval
from search.environment import version
from search.formats import FileFormat
from search.formats.served import Served

PACKAGES = ("repmlp-search", "torch", "onnx", "onnxruntime", "safetensors")
Speeds = Mapping[int, Mapping[str, tuple[float, float, float]]]
"""Batch size to network to p10, median and p90 of images/s."""


def card(
    run: Run,
    number: int,
    formats: Mapping[str, FileFormat],
    served: Served,
    found: Mapping[str, Verified],
    speeds: Speeds,
    hardware: str,
    threads: int,
) -> str:
    """Return the card of an exported trial as Markdown.

    `served` tells of images and outputs: `task`, `shape`, `mean`, `std` and the names of the `classes`, if there are
    any; `found` is that of `deploy.exporting.proved`; `speeds` were measured on `hardware` with so many CPU threads.
    """
    preprocessing = served.about
    trial = {str(name): value for name, value in run.trials.loc[number].items()}
    template = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True).from_string(
        resources.files("deploy").joinpath("card.md").read_text()
    )
    titles = {name: formats[name].file if name in formats else name for name in found}
    training, data = run.study.training, plain(run.study)["data"]["name"]
    runtimes = {name: formats[name].runtime if name in formats else "torch" for name in found}
    return template.render(
        name=run.name,
        trial=number,
        network=config_from_dict(cast(Any, trial["config"])).describe(),
        shape=preprocessing["shape"],
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        output=described(preprocessing),
        params=trial["params"],
        macs=trial["macs"],
        images=trial["images"] if pd.notna(trial["images"]) else "the",
        accuracy=percent(found["converted"].accuracy, trial["images"]),
        test=percent(cast(float, trial["test"]), trial["test_images"]) if pd.notna(trial["test"]) else "",
        trained=f"{training.epochs} epochs on {data} in {training.precision}, seed {trial['seed']}, "
        "converted for scoring",
        trained_accuracy=f"{found['trained'].accuracy:.2f}",
        agreement=[[titles[name], *errors(verified)] for name, verified in found.items() if name != "trained"],
        batches=list(speeds),
        speeds=[
            [titles[name], runtime, *(speed(of[name]) for of in speeds.values())] for name, runtime in runtimes.items()
        ],
        hardware=hardware,
        threads=threads,
        pixels=served.pixels,
        loading=[(kind.title, snippet(kind, served)) for kind in formats.values()],
        versions=[f"Python {platform.python_version()}", *(f"{n} {v}" for n in PACKAGES if (v := version(n)))],
    )


def snippet(kind: FileFormat, served: Served) -> str:
    """Return Python that loads a file and says what it makes of an image file IMAGE."""
    channels, height, width = served.about["shape"]
    mode, task = {1: "L", 3: "RGB"}.get(channels, "CMYK"), served.about["task"]
    lines = [
        kind.loading,
        "",
        "",
        "import numpy as np" if task != "classification" else "import json\n\nimport numpy as np",
        "from PIL import Image",
        "",
        f"image = np.array(Image.open(IMAGE).convert('{mode}').resize(({width}, {height})))",
    ]
    if served.pixels and kind.whole:
        lines += [f"outputs = model(image.reshape(1, {height}, {width}, {channels}))"]
    else:
        lines += [
            f"mean, std = (np.array(v, np.float32).reshape(1, {channels}, 1, 1) for v in (",
            f"    {served.about['mean']}, {served.about['std']}))",
            f"images = image.reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2)",
            "outputs = model((images.astype(np.float32) - mean) / std)",
        ]
    if task == "classification":
        lines += [
            "classes = json.load(open(FOLDER + '/config.json'))['preprocessing']['classes']",
            "best = int(outputs[0].argmax())",
            "print(classes[best] if classes else best)",
        ]
    elif task == "segmentation":
        lines += ["print(outputs[0].argmax(0))  # the class of each pixel"]
    else:
        lines += ["print(outputs[0] / np.linalg.norm(outputs[0]))  # compare two by their product"]
    return "\n".join(lines)


def errors(verified: Verified) -> list[str]:
    """Return the cells of one network beside the trained one."""
    beside = verified.trained
    same = "" if beside.top1 is None else f"{beside.top1:.2f} %"
    if beside.cosine is not None:
        same = f"cosine {beside.cosine:.6f}"
    if verified.iou is not None:
        same = f"mIoU {verified.iou:.2f} %"
    return [f"{beside.max_error:.1e}", f"{beside.mean_error:.1e}", same, f"{verified.accuracy:.2f}"]


def speed(of_network: Sequence[float]) -> str:
    p10, median, p90 = of_network
    return f"{median:,.0f} ({p10:,.0f} to {p90:,.0f})"


def percent(accuracy: float, images: Any) -> str:
    """Return an accuracy with its 95 % interval, where it is known on how many images it was judged."""
    if pd.isna(images):
        return f"{accuracy:.2f} %"
    low, high = accuracy_interval(accuracy, int(images))
    return f"{accuracy:.2f} % (95 % interval {low:.2f} to {high:.2f})"


def described(preprocessing: Mapping[str, Any]) -> str:
    """Say what the outputs are."""
    names = preprocessing["classes"]
    kind = {
        "classification": "logits `(N, classes)`",
        "segmentation": "logits of each pixel `(N, classes, H, W)`",
        "recognition": "embeddings `(N, D)`, which are compared by cosine",
    }[preprocessing["task"]]
    return f"{kind}, of {', '.join(names)}" if names else kind
