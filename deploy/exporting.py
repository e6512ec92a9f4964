"""The export of a trial: its trained network converted, written, proved on the study's validation images, and timed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import nn

from record.run import Run
from repmlp import config_from_dict, convert
from results.card import card
from results.export import any_batch, proved, quiet, record, table, whole_folder, written
from results.verify import Network
from search.data import load
from search.environment import processor
from search.measuring.costs import input_shape
from search.measuring.runtimes import side_by_side
from search.training.trainer import make_task


def export_trial(
    run: Run,
    number: int,
    trained: nn.Module,
    formats: Sequence[str],
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Export a trial into a folder, whole or not at all; return a row a network, see `results.export.table`.

    Args:
        run: where the trial is.
        number: of the trial.
        trained: its network as trained, in eval mode.
        formats: names of `results.formats.FORMATS`.
        folder: to write; an earlier export there is replaced.
        say: told what goes on.

    Raises:
        MismatchError: if a file does not compute what the trained network does.
        FormatError: if a format cannot be written here, or the folder holds something else.
        DataError: if the validation images are missing.
    """
    study = run.study
    config = config_from_dict(cast(Any, run.trials.loc[number, "config"]))
    threads, shape = study.measure.threads, input_shape(config)
    torch.set_num_threads(threads)
    say("Reading the validation images")
    source = load(study.data)
    mean, std = source.normalisation
    about = {"task": study.data.task, "shape": shape, "mean": mean, "std": std, "classes": list(source.class_names)}
    task = make_task(study.data.task, source, config.classes, study.training)
    images, _ = next(iter(source.held_out()))
    converted = convert(trained)
    with whole_folder(folder) as part:
        say(f"Writing {', '.join(formats)}")
        files = written(part, formats, config, converted, images[:2], about, threads)
        any_batch(files, converted, images[:3])
        seen = 0

        def advance(count: int) -> None:
            nonlocal seen
            seen += count
            say(f"Comparing on validation images: {seen:,}")

        classes = study.data.task != "recognition"
        found = proved(trained, converted, files, source.held_out, task.meter, classes, advance)
        say("Timing each runtime")
        networks: dict[str, Network] = {"trained": trained, "converted": converted, **files}
        with quiet():
            speeds = {
                batch: side_by_side(networks, torch.randn(batch, *shape), study.measure.seconds, threads)
                for batch in sorted({1, study.measure.batch})
            }
        kept = record(found, speeds, part)
        (part / "export.json").write_text(json.dumps(kept, indent=1) + "\n")
        (part / "README.md").write_text(card(run, number, about, found, speeds, processor(), threads))
    return table(kept)
