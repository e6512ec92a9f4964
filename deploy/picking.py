"""The study that trains a pick, and the pick's throughput measured once more."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
import yaml
from omegaconf import OmegaConf

from record.files import read_study
from record.run import Run
from search.measuring.remeasure import remeasured


def write_study(values: Mapping[str, Any], changes: Sequence[str], path: Path, why: str) -> None:
    """Write a study with `KEY=VALUE` changes, checked, whole or not at all.

    Raises:
        StudyError: if the changes do not fit it.
    """
    part = path.with_name(f"{path.name}.part")
    part.write_text(yaml.safe_dump(values))
    try:
        read_study(part, changes)
        merged = OmegaConf.to_container(OmegaConf.merge(values, OmegaConf.from_dotlist(list(changes))))
        text = yaml.safe_dump(merged, sort_keys=False, default_flow_style=None, width=120)
        part.write_text(f"# {why}\n# Train it fully: python run_search.py {path}\n{text}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def measured_again(
    result: Run, number: int, limits: Mapping[str, float], say: Callable[[str], None] = lambda _: None
) -> str:
    """Measure a trial's network once more, quietly, and return what came of it beside what the run has."""
    known = result.trials.loc[number]
    device = "cpu" if known["device"] in ("cpu", "") else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        return f"Not measured again: the run measured on {known['device']}, and no GPU is here."
    say(f"Measuring trial {number} again")
    again = remeasured(result.study, cast(Any, known["config"]), device)
    text = f"Measured again: {again.median:,.0f} img/s (p10-p90 {again.p10:,.0f}-{again.p90:,.0f})"
    if again.relative is not None:
        text += f", {again.relative:.2f} x base"
    text += "." if again.steady else ", unsteady: its spread is above the limit of the study."
    if pd.notna(known["throughput"]):
        text += f" The run had {known['throughput']:,.0f} img/s."
    if again.median < limits.get("min_throughput", 0) or again.latency > limits.get("max_latency", float("inf")):
        text += " This exceeds a limit: the machine is slower now, or the network too near to it."
    return text
