"""What the figures of the report are drawn from, as JSON inside the page."""

import base64
import gzip
import json
import math
from typing import Any

import pandas as pd
import plotly.io
from markupsafe import Markup
from plotly.colors import sequential

from record.quantities import Quantity, limits
from record.run import Run
from repmlp import config_from_dict
from results.choice import ORDER
from results.parameters import NOT_ASKED, asked
from results.points import ABSENT, EXCLUDED, OKABE_ITO, STATES, points, quantities

COLUMNS = ("outcome", "reason", "steady", "host_bound", "throughput_p10", "throughput_p90", "epochs")
"""Of the frame of trials, in the page beside the quantities."""
DIGITS = {
    "latency": 6,
    "latency_p99": 6,
    "relative": 4,
    "seconds": 1,
    "low": 2,
    "high": 2,
    "throughput_p10": 1,
    "throughput_p90": 1,
}
"""Decimal places of what only is shown; objectives and limits are compared, and kept as they are."""


def embedded(run: Run) -> dict[str, Any]:
    """Return the trials, a list a column, their networks and learning curves, and what may be chosen on the page.

    The accuracy of a trial is the one that is shown: of one stopped or under way, that of its last epoch. A network is
    held once, however many trials have it; their configurations, which say much the same a thousand times, are packed.
    """
    shown, known = points(run), quantities(run)
    frame = run.trials[list(dict.fromkeys((*known, "throughput", *COLUMNS)))].copy()
    if "accuracy" in known:
        frame.loc[shown.index, "accuracy"] = shown["accuracy"]
    frame[["low", "high"]] = shown[["low", "high"]].reindex(frame.index)
    frame["shown"] = frame.index.isin(shown.index)
    bounds = {key: q.name for key, q in limits(run.study.known).items()}
    exact = {*run.objectives, *bounds.values()}
    digits = {name: DIGITS.get(str(name).partition(".")[0]) for name in frame if name not in exact}
    frame = frame.round({name: places for name, places in digits.items() if places is not None})
    trials = {str(name): plain(frame[name]) for name in frame} | {"trial": frame.index.tolist()}
    texts = [json.dumps(c) if isinstance(c, dict) else None for c in run.trials["config"]]
    configs = {text: config for text, config in zip(texts, run.trials["config"], strict=True) if text}
    places = {text: place for place, text in enumerate(configs)}
    curves = run.epochs.groupby("trial")["accuracy"].agg(list).reindex(run.trials.index)
    return {
        "name": run.name,
        "objectives": run.objectives,
        "maximise": run.maximise,
        "bounds": bounds,
        "quantities": {name: shown_as(q) for name, q in known.items()},
        "trials": trials | {"network": [places[text] if text else None for text in texts]},
        "summaries": [config_from_dict(config).describe() for config in configs.values()],
        "configs": packed(list(configs.values())),
        "curves": [plain(pd.Series(c)) if isinstance(c, list) else [] for c in curves],
        "parameters": {name: column.tolist() for name, column in asked(run).items() if column.nunique() > 1},
        "rules": {rule.value: order for rule, order in ORDER.items()},
        "colours": {"values": OKABE_ITO, "scale": sequential.Cividis, "absent": ABSENT, "excluded": EXCLUDED, **STATES},
        "notAsked": NOT_ASKED,
        "template": plotly.io.templates["simple_white"].to_plotly_json(),
    }


def shown_as(quantity: Quantity) -> dict[str, Any]:
    """Return what the page needs to show a quantity: name, title with unit, unit and its divisor."""
    return {"name": quantity.title, "title": quantity.axis, "unit": quantity.unit, "divisor": quantity.divisor}


def plain(values: pd.Series) -> list[Any]:
    """Return values as JSON knows them, with None for what is missing or not finite."""
    return [None if pd.isna(v) or (isinstance(v, float) and math.isinf(v)) else v for v in values.tolist()]


def packed(values: object) -> str:
    """Return JSON, compressed by gzip, as base64."""
    return base64.b64encode(gzip.compress(json.dumps(values).encode(), mtime=0)).decode()


def sliders(run: Run) -> dict[str, dict[str, Any]]:
    """Return a slider for each limit on something that differs between the trials shown.

    Its name to low, high and step, in the units of the column and in round numbers; `loosest`, the end at which it
    limits nothing; and the quantity that it bounds.
    """
    shown, known = points(run), quantities(run)
    found: dict[str, dict[str, Any]] = {}
    for name, bounded in limits(run.study.known).items():
        column = bounded.name
        values = shown[column].dropna().astype(float)
        if column not in known or values.nunique() < 2:
            continue
        digits = 2 - math.floor(math.log10(values.max() - values.min()))
        step = 10.0**-digits
        low = round(math.floor(values.min() / step) * step, digits)
        high = round(math.ceil(values.max() / step) * step, digits)
        loosest = high if name.startswith("max_") else low
        found[name] = {"low": low, "high": high, "step": step, "loosest": loosest, "quantity": shown_as(known[column])}
    return found


def script(data: object) -> Markup:
    """Return JSON that is safe inside an HTML script element."""
    return Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))
