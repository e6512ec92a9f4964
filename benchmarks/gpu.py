"""Everything that only a GPU can show, in one command: tests, speeds, and Table 1 of the paper in full.

`python -m benchmarks.gpu --minutes 25 --out FOLDER --data CIFAR10`; the same command again goes on where the last one
ended. It needs torch, torchvision, optuna, fvcore, moocore, pydantic, omegaconf and safetensors, no Ray and no network;
tests are left out where there is no pytest. Claims on one H100: all rows of Table 1 with three seeds within 15 minutes,
each within 1 point of the paper's accuracy, and RepMLP-Res50 Light at least 1.5x a channels-last ResNet-50 of the same
precision at batch 128.

FOLDER gets `page.md`, which says what held and what did not; `environment.json`, `figures.json`, `table1.csv`, a CSV
and a log of each benchmark, and the run of Table 1. Without a GPU, `--device cpu --minutes 5` takes the same way in
small.
"""

import argparse
import contextlib
import csv
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from record.files import read_study
from record.study import Study
from record.trial import Trial
from search.backends import local
from search.data import load
from search.draws import reference_point
from search.engine import Engine
from search.environment import environment
from search.journal import Journal
from search.networks import SpaceNetworks

ROOT = Path(__file__).parents[1]
BENCHMARKS = ("training_step", "grouped_fc", "conversion", "networks", "quiet_measurement")
RECIPES: dict[str, dict[str, object]] = {
    "auto": {},
    "graph": {"graph": "auto"},
    "compiled": {"compiled": True},
    "compiled_graph": {"compiled": True, "graph": "auto"},
    "channels_last": {"channels_last": True},
}
"""How a step may be taken on a GPU: side of `benchmarks.training_step` to keys of the recipe."""
CONCURRENT = 4
"""Trials at once on the GPU."""
Figures = dict[str, Any]
"""What each benchmark gave, by its name."""


@dataclass(frozen=True)
class Claim:
    """What ought to hold."""

    text: str
    value: float | None
    """None where it was not measured."""
    least: float

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "holds" if self.value >= self.least else "does not hold"


def main() -> None:
    """Do what is not done yet, within the time."""
    given = arguments()
    end = time.monotonic() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
    with processes_share_the_gpu(given):
        figures = benchmarks(given, end)
        study = table_1_study(given, figures)
        entries, seconds = table_1(study, given.out, end - 10)
    rows = table_of(entries, study, printed() if given.device == "cuda" else {})
    with (given.out / "table1.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (given.out / "page.md").write_text(page(given.device, figures, study, rows, seconds))
    print((given.out / "page.md").read_text())
    print(json.dumps({"claims": {c.text: c.verdict for c in claims(given.device, figures, rows, seconds)}}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 as torchvision lays it out")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; --device cpu takes the same way in small")
    if given.device == "cuda" and given.data is None:
        parser.error("--data is missing: the folder of CIFAR-10, for Table 1")
    return given


@contextlib.contextmanager
def processes_share_the_gpu(given: argparse.Namespace) -> Iterator[None]:
    """Run NVIDIA's MPS meanwhile, where it can be started, so that kernels of several processes run side by side."""
    if given.device == "cpu" or shutil.which("nvidia-cuda-mps-control") is None:
        yield
        return
    for name in ("PIPE", "LOG"):
        folder = (given.out / f"mps-{name.lower()}").resolve()
        folder.mkdir(exist_ok=True)
        os.environ[f"CUDA_MPS_{name}_DIRECTORY"] = str(folder)
    started = subprocess.run(["nvidia-cuda-mps-control", "-d"], capture_output=True).returncode == 0
    check = [sys.executable, "-c", "import torch; torch.zeros(1, device='cuda')"]
    if not started or subprocess.run(check, capture_output=True, timeout=120).returncode:
        quit_mps()
        del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]
        yield
        return
    try:
        yield
    finally:
        quit_mps()


def quit_mps() -> None:
    subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", capture_output=True)


def benchmarks(given: argparse.Namespace, end: float) -> Figures:
    """Run the tests and each benchmark that has no figures yet, for at most half of the time in all."""
    kept = given.out / "figures.json"
    figures: Figures = json.loads(kept.read_text()) if kept.exists() else {}
    last = end - 30 * given.minutes
    for name in ("tests", *BENCHMARKS):
        done = "failure" not in figures.get(name, {"failure": "not run yet"})
        if done or time.monotonic() > last:
            continue
        print(f"{name} ...", flush=True)
        figures[name] = tests(given, last) if name == "tests" else benchmark(name, given, last)
        kept.write_text(json.dumps(figures, indent=1) + "\n")
        if "failure" in figures[name]:
            print(f"{name}: {figures[name]['failure']}", flush=True)
    return figures


def tests(given: argparse.Namespace, last: float) -> Figures:
    """Return how many tests of GPUs passed and failed."""
    if importlib.util.find_spec("pytest") is None:
        return {"failure": "there is no pytest"}
    line = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/whole/test_gpu.py"]
    output, failure = run(line, given.out / "tests.log", last)
    counts = output.strip().splitlines()[-1] if output.strip() else ""
    return {"result": counts, **({"failure": f"{failure}: {counts}"} if failure else {})}


def benchmark(name: str, given: argparse.Namespace, last: float) -> Figures:
    """Return the figures of a benchmark, its last line."""
    quick = ["--quick"] if given.device == "cpu" else []
    line = [sys.executable, "-m", f"benchmarks.{name}", "--device", given.device, *quick]
    output, failure = run(line, given.out / f"{name}.log", last)
    return {"failure": failure} if failure else json.loads(output.strip().splitlines()[-1])


def run(line: Sequence[str], log: Path, last: float) -> tuple[str, str]:
    """Run a command until `last`; return its output, which is kept in a log, and why it failed, or ""."""
    with log.open("w") as file:
        process = subprocess.Popen(
            line,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MEASURED": str(log.parent.resolve())},
        )
        try:
            code = process.wait(timeout=max(1.0, last - time.monotonic()))
            failure = f"exit code {code}, see {log.name}" if code else ""
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            failure = "its time was over"
    return log.read_text(), failure


def table_1_study(given: argparse.Namespace, figures: Mapping[str, Any]) -> Study:
    """Return the study of Table 1; how a step is taken is chosen once, by what was fastest."""
    common = ["resources.backend=local", f"seeds={given.seeds}", f"runs={given.out}", "measure.confirm=false"]
    if given.device == "cpu":
        data = ["data={name: mnist5k, size: 32, train_images: 300, flip: false}"]
        if given.data is not None:
            data = [f"data.root={given.data}", "data.train_images=300"]
        small = ["training.epochs=1", "training.batch=32", "seeds=1", "measure.seconds=0.05", "measure.batch=8"]
        return read_study(ROOT / "studies" / "ablation_cifar.yaml", [*common, *data, *small])
    kept = given.out / "recipe.json"
    if not kept.exists():
        kept.write_text(json.dumps({"side": fastest(figures.get("training_step", {}))}) + "\n")
    recipe = RECIPES[json.loads(kept.read_text())["side"]]
    changes = [f"training.{key}={str(value).lower()}" for key, value in recipe.items()]
    shared = [f"resources.gpus={1 / CONCURRENT}", f"resources.concurrent={CONCURRENT}", f"data.root={given.data}"]
    return read_study(ROOT / "studies" / "ablation_cifar.yaml", [*common, *changes, *shared])


def fastest(step: Mapping[str, float]) -> str:
    """Return the side of `benchmarks.training_step` whose step is the shortest."""
    return max(RECIPES, key=lambda side: step.get(f"{side}_vs_auto", 1.0 if side == "auto" else 0.0))


def table_1(study: Study, out: Path, end: float) -> tuple[list[Trial], float]:
    """Train what is missing until the time is over; return all trials, and the seconds spent on them in all calls."""
    study.folder.mkdir(parents=True, exist_ok=True)
    source = load(study.data)
    image = source.channels, source.size, source.classes
    journal = Journal(study)
    journal.opened(reference_point(study, image), environment())
    engine = Engine(journal, SpaceNetworks(study.space, image), tell)
    clock = out / "table1_seconds.json"
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    start = time.monotonic()
    if not engine.finished and end > start:
        with time_limit(end - start):
            local.run(engine)
    spent = before + time.monotonic() - start
    clock.write_text(json.dumps(spent))
    return list(journal.trials.values()), spent


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt as Ctrl-C does once the time is over, after which trials go on from their checkpoints."""

    def over(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tell(trial: Trial) -> None:
    """Print a trial that has ended."""
    if not trial.open:
        accuracy = trial.final.test["accuracy"] if trial.final and trial.final.test else float("nan")
        print(f"trial {trial.number} {trial.params.get('network')} {trial.state} {accuracy:.2f} {trial.reason}")


def printed() -> dict[str, float]:
    """Return the accuracies of the paper's Table 1."""
    with (ROOT / "results" / "paper" / "table1.csv").open() as file:
        return {row["row"]: float(row["accuracy"]) for row in csv.DictReader(file)}


def table_of(entries: Sequence[Trial], study: Study, paper: Mapping[str, float]) -> list[dict[str, object]]:
    """Return each row of Table 1 with our accuracies on the test images beside the paper's."""
    rows: list[dict[str, object]] = []
    for name in study.listed:
        of_row = [e for e in entries if e.params.get("network") == name and e.final and e.final.test]
        accuracies = [e.final.test["accuracy"] for e in of_row if e.final and e.final.test]
        trained = [e for e in of_row if e.twin is None]
        epochs = [r for e in trained for r in e.curve]
        mean = statistics.mean(accuracies) if accuracies else None
        rows.append(
            {
                "row": name,
                "seeds": len(accuracies),
                "accuracy": mean if mean is None else round(mean, 2),
                "deviation": round(statistics.stdev(accuracies), 2) if len(accuracies) > 1 else None,
                "paper": paper.get(name),
                "difference": None if mean is None or name not in paper else round(mean - paper[name], 2),
                "seconds_an_epoch": round(statistics.median(r.seconds for r in epochs), 2) if epochs else None,
                "images_per_s": next((round(m.median) for e in of_row if (m := e.measurement())), None),
                "failed": sum(e.state == "failed" for e in entries if e.params.get("network") == name),
            }
        )
    return rows


def claims(device: str, figures: Figures, rows: Sequence[Mapping[str, Any]], seconds: float) -> list[Claim]:
    """Return what ought to hold, with what was measured."""
    step = figures.get("training_step", {})
    found = [
        Claim("what auto takes is at least 0.95 times as fast as float32", step.get("auto_vs_float32"), 0.95),
        Claim(
            "FC3 is at least 5 times as fast as a grouped convolution", figures.get("grouped_fc", {}).get("geomean"), 5
        ),
        Claim("conversion is at least 5 times as fast", figures.get("conversion", {}).get("speedup"), 5),
    ]
    if device == "cpu":
        return found
    for precision in ("float32", "tf32", "bfloat16"):
        light = figures.get("networks", {}).get(f"light_{precision}_b128")
        found.append(Claim(f"Light is at least 1.5 times as fast as ResNet-50, batch 128, {precision}", light, 1.5))
    whole = all(r["seeds"] >= 3 for r in rows)
    near = [r["difference"] for r in rows if r["difference"] is not None]
    within = float(sum(abs(d) <= 1 for d in near)) if near else None
    found.append(Claim(f"all {len(near)} rows of Table 1 are within 1 point of the paper", within, len(near)))
    found.append(Claim("Table 1 with three seeds takes at most 15 minutes", 900 / seconds if whole else None, 1))
    return found


def page(device: str, figures: Figures, study: Study, rows: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """Return what held and what did not, as Markdown."""
    where = environment()
    named = where["gpu"] if device == "cuda" else f"{where['processor']}, {where['cores']} cores, in small"
    lines = [f"# Measured on {named}", "", f"torch {where['packages']['torch']}, {where['date']}", ""]
    lines += ["| claim | measured | |", "|---|---|---|"]
    for claim in claims(device, figures, rows, seconds):
        value = "" if claim.value is None else f"{claim.value:.2f}"
        lines.append(f"| {claim.text} | {value} | {claim.verdict} |")
    recipe = study.training.model_dump(exclude_defaults=True)
    lines += ["", f"## Table 1: {study.training.epochs} epochs, {seconds / 60:.1f} minutes so far, {recipe}", ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join("" if v is None else str(v) for v in row.values()) + " |" for row in rows]
    for name, found in figures.items():
        lines += ["", f"## {name}", "", *(f"- {key}: {value}" for key, value in found.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
