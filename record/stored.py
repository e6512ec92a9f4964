"""What older versions of this tool stored, read as today's would have written it.

Format 0 and 1 hold of a study what must not change as it goes on, without resources and budget; 0 has `training.bf16`
for `training.precision`. Second measurements lie with the study. Format 2 holds the study whole, and its number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from record.measure import Measurement

FORMAT = 2
"""That which is written."""
OF_SEARCHES = ("trials", "sampler", "start_with", "from_runs", "halving")
OF_COMPARISONS = ("seeds", "test")
STREAMED = {"auto_augment", "resize", "scale", "rotate", "stream", "workers", "decode"}
SEGMENTED = {"resize", "scale", "rotate"}
WITHOUT_EFFECT = {
    "mnist5k": {"root", "download", *STREAMED},
    "cifar10": STREAMED,
    "cifar100": STREAMED,
    "fashion_mnist": STREAMED,
    "image_folder": {"download", *SEGMENTED},
    "imagenet": {"download", "pad", "stream", *SEGMENTED},
    "face_folder": {"download", "auto_augment", *SEGMENTED},
    "segmentation_folder": {"download", "validation", "pad", "auto_augment", "stream", "decode"},
    "cityscapes": {"download", "pad", "auto_augment", "stream", "decode"},
}
"""Keys that every data set had when one flat configuration served all, by the name of a set on which they had none."""


def study_values(attributes: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return a stored study as plain values that `record.study.study_of` reads.

    Args:
        attributes: of the study in storage.
        trials: which tell what older formats leave out: the device that measured, and the number of seeds.
    """
    study = dict(attributes["study"])
    if attributes.get("format", 1) >= FORMAT:
        return study
    training = dict(study.get("training", {}))
    if "precision" not in training:  # bfloat16 was the default
        training["precision"] = "bfloat16" if training.pop("bf16", True) else "float32"
    known = [t.user_attrs for t in trials if "config" in t.user_attrs]
    devices = {r["throughput"].get("device", "cpu") for r in known if r.get("throughput")}
    study["data"] = upgraded_data(study.get("data", {}))
    found = {**study, "training": training, "resources": {"gpus": 1 if devices - {"cpu", "recorded"} else 0}}
    if study.get("seeds"):
        seeds = {r["seed"] for r in known}
        found["seeds"] = max(1, len(seeds))
        return {k: v for k, v in found.items() if k not in OF_SEARCHES}
    counted = [r for r in known if not ({"twin", "origin"} & set(r)) and r.get("outcome") != "infeasible"]
    found["trials"] = max(1, len(counted))
    return {k: v for k, v in found.items() if k not in OF_COMPARISONS}


def second_measurements(study: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> dict[str, Measurement]:
    """Return those that older formats keep with the study, by deploy id: they counted for all that share it."""
    twice = [(t.user_attrs.get("deploy_id", ""), f"confirmed {t.number}") for t in trials]
    return {deploy_id: Measurement(**measurement(study[key])) for deploy_id, key in twice if key in study}


def measurement(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measurement in the format of today; older ones have two switches in place of the runtime."""
    found = dict(values)
    compiled, graph = found.pop("compiled", False), found.pop("graph", False)
    found.setdefault("runtime", "torch-compiled" if compiled else "cuda-graph" if graph else "torch")
    return found


def trial_attributes(trial: FrozenTrial) -> dict[str, Any]:
    """Return the attributes of a trial in the format of today."""
    found = dict(trial.user_attrs)
    if "params" not in found:  # names carried what was offered, such as "stage1.groups of 1, 2"
        found["params"] = {name.partition(" of ")[0]: value for name, value in trial.params.items()}
    measurements = [key for key in found if key.split(" ")[0] in ("throughput", "confirmed") and found[key]]
    return {**found, **{key: measurement(found[key]) for key in measurements}}


def upgraded_data(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a data set without the keys that had no effect on it, whatever they said.

    Only one that older versions wrote, which has them all, is changed.
    """
    older = {"auto_augment", "rotate", "stream"} <= set(values)
    without = WITHOUT_EFFECT.get(values.get("name", "mnist5k"), set()) if older else set()
    return {key: value for key, value in values.items() if key not in without}
