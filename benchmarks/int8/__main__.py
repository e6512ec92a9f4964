"""Claim: RepMLP networks keep their accuracy with 8 bits; the figures are in `results/measured/int8.md`.

Takes finished runs whose networks are listed and trained with several seeds, and quantizes each trained network in
several ways, all calibrated on 512 training images. Each is judged on the validation images, by which a way may be
chosen, and on the test images. `--speed` times the default's files against those in float32 instead, both in
onnxruntime, for the first seed. What is known already is kept.
`python -m benchmarks.int8 RUN... --out results/measured/int8`
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.int8.methods import METHODS, Subject, crests
from benchmarks.timing import in_turn, ratio
from record.run import Run, open_run
from repmlp import config_from_dict, convert
from results import weights
from search.data import load
from search.formats import Network, quiet
from search.formats.onnx import Onnx
from search.formats.onnx_int8 import OnnxInt8
from search.training.int8 import calibration
from search.training.tasks import Meter
from search.training.trainer import make_task

BATCHES = 1, 32
Row = dict[str, Any]


def judged(network: Network, batches: Iterable[tuple[Tensor, Tensor]], meter: Meter) -> float:
    """Return the accuracy on images, percent."""
    with torch.inference_mode():
        for images, targets in batches:
            meter.update(network(images.float()), targets)
    return meter.compute()["accuracy"]


def accuracies(run: Run, trial: int, methods: list[str]) -> Iterator[Row]:
    """Yield a row for each method, of its accuracy on validation and test images."""
    study, row = run.study, run.trials.loc[trial]
    source = load(study.data)
    task = make_task(study.data.task, source, config_from_dict(run.trials["config"][trial]).classes, study.training)
    trained = weights.trained(run, trial)
    subject = Subject(convert(trained), calibration(source))
    known = {"run": run.name, "network": row["param.network"], "seed": row["seed"], "trial": trial}
    for method in methods:
        network = METHODS[method](subject)
        splits = {"validation": source.held_out, "test": source.test}
        found = {name: judged(network, batches(), task.meter()) for name, batches in splits.items()}
        yield {**known, "method": method, **found, **crests(trained)}


def speeds(run: Run, trial: int) -> Iterator[Row]:
    """Yield a row for each batch size: how much faster the default's file runs than float32, both in onnxruntime."""
    row, model = run.trials.loc[trial], convert(weights.trained(run, trial))
    images = calibration(load(run.study.data))
    with tempfile.TemporaryDirectory() as folder, quiet():
        passes = {}
        for kind in (Onnx(), OnnxInt8()):
            path = Path(folder) / kind.file
            kind.write(model, images if kind.calibrates else images[:2], path)
            passes[kind.name] = kind.open(path, torch.get_num_threads())
    for batch in BATCHES:
        times = in_turn({name: partial(network, images[:batch]) for name, network in passes.items()})
        faster = ratio(times["onnx"], times["onnx-int8"])
        yield {"run": run.name, "network": row["param.network"], "trial": trial, "batch": batch, "speed_up": faster}


def networks(runs: list[Run], names: list[str] | None) -> Iterator[tuple[Run, int]]:
    """Yield the trained networks of runs, or those of some names; each network's first seed first."""
    for run in runs:
        complete = run.trials[run.trials["outcome"] == "complete"]
        complete = complete[complete["param.network"].isin(names or complete["param.network"])]
        for trial in complete.sort_values("seed", kind="stable").index:
            yield run, int(trial)


def known(path: Path) -> list[Row]:
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    return [{str(name): value for name, value in row.items()} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="FILE of FILE.csv, and with --speed FILE-speed.csv")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--networks", nargs="+", metavar="NAME")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    path = given.out.with_name(f"{given.out.name}{'-speed' * given.speed}.csv")
    rows = known(path)
    for run, trial in networks([open_run(folder) for folder in given.runs], given.networks):
        done = {row.get("method") for row in rows if (row["run"], row["trial"]) == (run.name, trial)}
        if given.speed:
            found = iter(()) if done or run.trials.loc[trial, "seed"] != run.study.seed else speeds(run, trial)
        else:
            found = accuracies(run, trial, [method for method in given.methods if method not in done])
        for row in found:
            rows.append(row)
            pd.DataFrame(rows).to_csv(path, index=False)
            print(" ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)


if __name__ == "__main__":
    main()
