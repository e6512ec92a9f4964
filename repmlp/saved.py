"""Converted networks in a folder: `config.json` and `model.safetensors`, which is all that is needed to run one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from repmlp.networks import NetworkConfig, build, config_from_dict, config_to_dict

FORMAT = 1
"""Of `config.json`; a reader refuses one that it does not know."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(folder: Path, config: NetworkConfig, model: nn.Module, preprocessing: Mapping[str, Any]) -> None:
    """Write a converted network into an existing folder.

    Args:
        folder: where to.
        config: of the network.
        model: its converted form.
        preprocessing: what turns an image into an input, as plain values; kept for readers.
    """
    described = {"format": FORMAT, "network": config_to_dict(config), "preprocessing": dict(preprocessing)}
    (folder / CONFIG).write_text(json.dumps(described, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors makes it readable for its owner alone


def load(folder: str | Path) -> nn.Module:
    """Return the converted network that `analyze.py export` wrote into a folder, in eval mode on the CPU.

    Raises:
        ValueError: if a file is missing or damaged, or the weights are those of another network.
    """
    folder = Path(folder)
    try:
        described = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS)
    except OSError as error:
        raise ValueError(
            f"{folder} must hold {CONFIG} and {WEIGHTS}, as analyze.py export writes them: {error}"
        ) from None
    except (json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds a damaged or truncated file ({error}); export it again.") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ValueError(f"{folder / CONFIG} is not of format {FORMAT}; export it with this version.")
    try:
        model = build(config_from_dict(described["network"]), deploy=True)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG} does not describe a network ({error!r}); export it again.") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"{folder / WEIGHTS} does not hold the network of {CONFIG}: {reason}") from None
    return model.eval()
