"""Export of a trained network: converted, written, and each file proved equal to the trained network on real images."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from deploy.card import Speeds, card
from deploy.verify import Agreement, Verified, first_off, verify
from record.run import Run, RunError
from repmlp import config_from_dict, convert
from repmlp.networks import NetworkConfig
from repmlp.saved import CONFIG, save
from results import weights
from results.choice import best_trial
from search.candidate import TOLERANCE
from search.data import load
from search.environment import processor
from search.formats import FileFormat, FormatError, Network, chosen, names, quiet
from search.formats.served import Served
from search.measuring.costs import input_shape
from search.measuring.locks import DeviceLock
from search.measuring.side_by_side import side_by_side
from search.training.int8 import calibration
from search.training.tasks import Meter
from search.training.trainer import make_task

PERCENTILES = ("p10", "median", "p90")
TIPPED, TIPPED_IMAGES = 0.5, 2
"""Points, or images if these are more, by which an accuracy here may differ from the recorded one, which may be of
another device's arithmetic, or of a network that can hardly tell some images apart."""
AGREEMENTS = {"same_top1": "same top-1 (%)", "cosine": "least cosine", "iou": "mIoU to trained (%)"}
"""How far outputs mean the same as the trained network's: of classes, embeddings, label maps."""
Formats = Mapping[str, FileFormat]
"""By name."""


class MismatchError(ValueError):
    """An exported network does not compute what the trained one does."""


def export(
    run: Run,
    folder: str | Path,
    formats: Sequence[str] = ("safetensors", "onnx", "pt2"),
    trial: int | None = None,
    say: Callable[[str], None] = lambda _: None,
    pixels: bool = True,
) -> pd.DataFrame:
    """Export a trained network, whole or not at all, proved on the study's validation images, and timed.

    Args:
        run: where the trial is.
        folder: to write; an earlier export there is replaced.
        formats: names of `search/formats/`, or paths of one's own.
        trial: its number; without one it is that of `results.choice.best_trial`.
        say: told what goes on.
        pixels: whether files take uint8 images `(N, H, W, C)`, as they are read, and normalise them; else normalised
            float32 `(N, C, H, W)`.

    Returns:
        A row a network, see `table`.

    Raises:
        RunError: if the trial is not complete, or has no weights that can be read.
        FormatError: if a format cannot be written here, or the folder holds something else.
        DataError: if the validation images are missing.
        MismatchError: if a file does not compute what the trained network does, or that is not as accurate as recorded.
    """
    number = best_trial(run) if trial is None else trial
    if number in run.trials.index and (row := run.trials.loc[number])["outcome"] != "complete":
        why = f"{': ' if row['reason'] else ''}{row['reason']}"
        raise RunError(f"trial {number} is {row['outcome']}{why}; export a complete one.")
    trained, kinds, study = weights.trained(run, number), chosen(formats), run.study
    config = config_from_dict(run.trials["config"][number])
    point, shape = study.points[study.first], input_shape(config)
    threads = point.threads
    torch.set_num_threads(threads)
    say("Reading the validation images")
    source = load(study.data)
    mean, std = source.normalisation
    about = {
        "task": study.data.task,
        "shape": list(shape),
        "mean": list(mean),
        "std": list(std),
        "classes": list(source.class_names),
    }
    task = make_task(study.data.task, source, config.classes, study.training)
    images, _ = next(iter(source.held_out()))
    converted = convert(trained)
    served, lock = Served(converted, about, pixels).eval(), DeviceLock("cpu")
    seen = 0

    def advance(count: int) -> None:
        nonlocal seen
        seen += count
        lock.give_way()
        say(f"Comparing on validation images: {seen:,}")

    with whole_folder(Path(folder), kinds) as part:
        say(f"Writing {', '.join(kinds)}")
        with lock.shared():
            trained_on = calibration(source) if any(kind.calibrates for kind in kinds.values()) else images
            files = written(part, kinds, config, served, (images[:2], trained_on), threads)
            any_batch(kinds, files, converted, images[:3])
            classes = study.data.task != "recognition"
            found = proved(kinds, trained, converted, files, source.held_out, task.meter, classes, advance)
        as_recorded(found["converted"].accuracy, run.trials["accuracy"][number], run.trials["images"][number])
        say("Timing each runtime")
        with quiet():
            speeds = {
                batch: side_by_side(passes(trained, converted, files, images, batch), batch, point.seconds, threads)
                for batch in sorted({1, *(p.batch for p in study.points.values())})
            }
        kept = record(kinds, found, speeds, part)
        (part / "export.json").write_text(json.dumps(kept, indent=1) + "\n")
        (part / "README.md").write_text(card(run, number, kinds, served, found, speeds, processor(), threads))
    return table(kept)


@dataclass(frozen=True)
class File:
    """An exported file, opened, where a network is wanted that takes normalised images."""

    run: Network
    given: Callable[[Tensor], Tensor]
    """From normalised images to what it takes."""

    def __call__(self, images: Tensor) -> Tensor:
        return self.run(self.given(images))


def as_recorded(accuracy: float, recorded: float, images: Any = pd.NA) -> None:
    """Raise MismatchError if a network is not as accurate as its run recorded, but for images that roundings tip.

    Both are in percent, of so many images; missing if these are not judged one by one.
    """
    tipped = TIPPED if pd.isna(images) else max(TIPPED, 100 * TIPPED_IMAGES / images)
    if not abs(accuracy - recorded) <= tipped:
        raise MismatchError(
            f"the trained network has {accuracy:.2f} % on the validation images, and {recorded:.2f} % are recorded: "
            "weights or images have changed."
        )


def passes(
    trained: nn.Module, converted: nn.Module, files: Mapping[str, File], images: Tensor, batch: int
) -> dict[str, Callable[[], Any]]:
    """Return a forward pass of each network for so many images, which are repeated."""
    given = images[torch.arange(batch) % len(images)]
    modules: dict[str, Network] = {"trained": trained, "converted": converted}
    return {
        **{name: partial(module, given) for name, module in modules.items()},
        **{name: partial(file.run, file.given(given)) for name, file in files.items()},
    }


@contextmanager
def whole_folder(folder: Path, formats: Formats) -> Iterator[Path]:
    """Give a folder that takes the place of `folder` at the end, or is gone if anything fails.

    Raises:
        FormatError: if `folder` holds anything but an earlier export, or is the working directory.
    """
    kinds = {**chosen(names()), **formats}
    of_kinds = [name for kind in kinds.values() for name in (kind.file, f"{kind.file}.data")]
    known = {CONFIG, "export.json", "README.md", *of_kinds}
    folder = folder.resolve()
    if Path.cwd().is_relative_to(folder):
        raise FormatError(f"{folder} is where you are, and is not replaced; name a new folder with --out.")
    part, old = (folder.with_name(f"{folder.name}.{end}") for end in ("part", "old"))
    for place in (folder, part, old):
        others = [path.name for path in place.iterdir() if path.name not in known] if place.exists() else []
        if others:
            raise FormatError(
                f"{place} holds other files, such as {min(others)}, which an export does not replace; name a new "
                "folder with --out."
            )
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.replace(old)
        part.replace(folder)
    finally:
        if old.exists() and not folder.exists():
            old.replace(folder)
        for place in (part, old):
            shutil.rmtree(place, ignore_errors=True)


def written(
    folder: Path,
    formats: Formats,
    config: NetworkConfig,
    served: Served,
    examples: tuple[Tensor, Tensor],
    threads: int,
) -> dict[str, File]:
    """Write the files of a converted network into a folder, and return each as its runtime runs it.

    `examples` are two normalised images, and training images for the formats that calibrate.
    """
    save(folder, config, served.model, served.about)
    files = {}
    for name, kind in formats.items():
        given = served.given if kind.whole else torch.clone
        with quiet():
            kind.write(served, given(examples[kind.calibrates]), folder / kind.file)
            files[name] = File(kind.open(folder / kind.file, threads), given)
    return files


def proved(
    formats: Formats,
    trained: nn.Module,
    converted: nn.Module,
    files: Mapping[str, Network],
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    meter: Callable[[], Meter],
    classes: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Verified]:
    """Compare the trained network, its conversion and each file on the same images; see `verify`.

    Raises:
        MismatchError: if outputs differ by more than the tolerance, naming the file, or for the conversion the first
            layer that is off.
    """
    found = verify({"trained": trained, "converted": converted, **files}, batches(), meter, classes, advance)
    error = found["converted"].trained.max_error
    if not error <= TOLERANCE:
        worst, _ = next(islice(batches(), found["converted"].trained.worst, None))
        layer, of_layer = first_off(trained, converted, worst, TOLERANCE)
        raise MismatchError(
            f"the converted network is off by {error:.1e} of the largest output, more than {TOLERANCE:.0e}; the first "
            f"layer that is off is {layer}, by {of_layer:.1e}."
        )
    for name in files:
        kind = formats[name]
        error = max(found[name].trained.max_error, found[name].converted.max_error)
        if not error <= kind.tolerance:
            raise MismatchError(
                f"{kind.file} is off by {error:.1e} of the largest output, more than {kind.tolerance:.0e}, though "
                "the conversion is right; leave this format out, and report it."
            )
    return found


def any_batch(formats: Formats, files: Mapping[str, Network], converted: nn.Module, images: Tensor) -> None:
    """Check that each file takes one image, and as many as are given.

    Raises:
        MismatchError: naming a file that does not, or gives something else.
    """
    with torch.inference_mode():
        for count in (1, len(images)):
            expected = converted(images[:count])
            for name, network in files.items():
                beside = Agreement()
                beside.add(network(images[:count]), expected, None)
                if not beside.max_error <= formats[name].tolerance:
                    raise MismatchError(
                        f"{formats[name].file} is off by {beside.max_error:.1e} for {count} images at once."
                    )


def record(formats: Formats, found: Mapping[str, Verified], speeds: Speeds, folder: Path) -> dict[str, Any]:
    """Return what came out as plain values: size, errors, accuracy and throughput of each network."""
    return {
        name: {
            "file": formats[name].file if name in formats else None,
            "bytes": (folder / formats[name].file).stat().st_size if name in formats else None,
            "max_error": verified.trained.max_error,
            "mean_error": verified.trained.mean_error,
            "max_error_to_converted": verified.converted.max_error,
            "same_top1": verified.trained.top1,
            "cosine": verified.trained.cosine,
            "iou": verified.iou,
            "accuracy": verified.accuracy,
            "throughput": {str(n): dict(zip(PERCENTILES, of[name], strict=True)) for n, of in speeds.items()},
        }
        for name, verified in found.items()
    }


def table(record: Mapping[str, Any]) -> pd.DataFrame:
    """Return a record as a table for people, a row a network; errors are those to the trained one."""
    rows = []
    for name, of_network in record.items():
        size = of_network["bytes"]
        row = {"network": of_network["file"] or name, "MB": None if size is None else round(size / 1e6, 2)}
        row |= {"max error": f"{of_network['max_error']:.1e}", "mean error": f"{of_network['mean_error']:.1e}"}
        row |= {title: of_network[key] for key, title in AGREEMENTS.items() if of_network[key] is not None}
        row |= {"accuracy": of_network["accuracy"]}
        rows.append(row | {f"img/s, batch {b}": round(v["median"]) for b, v in of_network["throughput"].items()})
    return pd.DataFrame(rows)
