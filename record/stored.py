"""Studies as older versions of this tool stored them, read as today's would have written them."""

from collections.abc import Mapping
from typing import Any


def upgraded(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored study with the keys of today; one of today is returned as it is.

    `training.bf16` became `training.precision`; a study that says neither trained in bfloat16, which was the default.
    """
    training = dict(study.get("training", {}))
    if "precision" not in training:
        training["precision"] = "bfloat16" if training.pop("bf16", True) else "float32"
    return {**study, "training": training}
