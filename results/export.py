"""Export of a trained network: converted, written, and each file proved equal to the trained network on real images."""

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from repmlp.networks import NetworkConfig
from repmlp.saved import CONFIG, save
from results.card import Speeds
from results.formats import FORMATS, FormatError
from results.verify import Agreement, Meter, Network, Verified, first_off, verify

CONVERSION = 1e-5
"""Largest difference of the converted network's outputs, relative to the largest output, in float32."""

PERCENTILES = ("p10", "median", "p90")
FILES = {CONFIG, "export.json", "README.md", *(kind.file for kind in FORMATS.values())}
"""All that an export may hold."""


class MismatchError(ValueError):
    """An exported network does not compute what the trained one does."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder that takes the place of `folder` at the end, or is gone if anything fails.

    Raises:
        FormatError: if `folder` holds anything but an earlier export, or is the working directory.
    """
    folder = folder.resolve()
    if Path.cwd().is_relative_to(folder):
        raise FormatError(f"{folder} is where you are, and is not replaced; name a new folder with --out.")
    part, old = (folder.with_name(f"{folder.name}.{end}") for end in ("part", "old"))
    for place in (folder, part, old):
        others = [path.name for path in place.iterdir() if path.name not in FILES] if place.exists() else []
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
    formats: Sequence[str],
    config: NetworkConfig,
    converted: nn.Module,
    example: Tensor,
    preprocessing: Mapping[str, Any],
    threads: int,
) -> dict[str, Network]:
    """Write the files into a folder and return each as its runtime runs it.

    Args:
        folder: an existing one.
        formats: names of `FORMATS`.
        config: of the network.
        converted: its converted form.
        example: an input of at least two images.
        preprocessing: see `repmlp.saved.save`.
        threads: CPU threads of a runtime that has its own.
    """
    save(folder, config, converted, preprocessing)
    networks = {}
    for name in formats:
        kind = FORMATS[name]
        with quiet():
            kind.write(converted, example, folder / kind.file)
            networks[name] = kind.open(folder / kind.file, threads)
    return networks


def proved(
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
    if not error <= CONVERSION:
        worst, _ = next(islice(batches(), found["converted"].trained.worst, None))
        layer, of_layer = first_off(trained, converted, worst, CONVERSION)
        raise MismatchError(
            f"the converted network is off by {error:.1e} of the largest output, more than {CONVERSION:.0e}; the first "
            f"layer that is off is {layer}, by {of_layer:.1e}."
        )
    for name in files:
        allowed = FORMATS[name].tolerance
        error = max(found[name].trained.max_error, found[name].converted.max_error)
        if not error <= allowed:
            raise MismatchError(
                f"{FORMATS[name].file} is off by {error:.1e} of the largest output, more than {allowed:.0e}, though "
                "the conversion is right; leave this format out, and report it."
            )
    return found


def any_batch(files: Mapping[str, Network], converted: nn.Module, images: Tensor) -> None:
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
                if not beside.max_error <= FORMATS[name].tolerance:
                    raise MismatchError(
                        f"{FORMATS[name].file} is off by {beside.max_error:.1e} for {count} images at once."
                    )


def record(found: Mapping[str, Verified], speeds: Speeds, folder: Path) -> dict[str, Any]:
    """Return what came out as plain values: size, errors, accuracy and throughput of each network."""
    return {
        name: {
            "file": FORMATS[name].file if name in FORMATS else None,
            "bytes": (folder / FORMATS[name].file).stat().st_size if name in FORMATS else None,
            "max_error": verified.trained.max_error,
            "mean_error": verified.trained.mean_error,
            "max_error_to_converted": verified.converted.max_error,
            "same_top1": verified.trained.top1,
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
        row |= {"same top-1 (%)": of_network["same_top1"], "accuracy": of_network["accuracy"]}
        rows.append(row | {f"img/s, batch {b}": round(v["median"]) for b, v in of_network["throughput"].items()})
    return pd.DataFrame(rows)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters from printing their progress and warnings of their own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
