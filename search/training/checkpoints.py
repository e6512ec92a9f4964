"""Checkpoints: all that a training needs to go on, and whose training it is."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from record.folders import UnreachableError, opened, whole
from record.recipe import Recipe

Owner = Mapping[str, Any]
"""What makes a training the one it is, by name, as plain values: study, network, recipe, data and seed."""


class CheckpointError(ValueError):
    """A checkpoint that a training cannot go on from; the message says why."""


class Output(io.BufferedWriter):
    """A file to write to that remembers why that failed."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it.

        Raises:
            OSError: if there is no room for it.
        """
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def checkpoint_path(folder: Path, number: int) -> Path:
    """Return where a run folder keeps the checkpoint of a trial."""
    return folder / "checkpoints" / f"{number}.pt"


def write(path: Path, owner: Owner, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        OSError: if there is no room for it.
    """
    with whole(path) as part, Output(io.FileIO(part, "wb")) as file:
        try:
            torch.save({"owner": dict(owner), **state}, file)
        except RuntimeError as error:  # "unexpected pos", as torch says of a full disk
            raise file.error or error from None


def read(path: Path, owner: Owner, device: str) -> dict[str, Any]:
    """Return what a checkpoint holds.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it cannot be read, or is of another training.
        UnreachableError: if its folder is elsewhere and cannot be reached.
    """
    try:
        with opened(path) as file, warnings.catch_warnings(action="ignore"):  # of protocols that noise seems to have
            state = torch.load(file, map_location=device, weights_only=True)
        found = state.get("owner")
    except (torch.OutOfMemoryError, UnreachableError, FileNotFoundError):
        raise
    except Exception as error:  # whatever a damaged file makes of the reader
        raise CheckpointError(f"is damaged ({type(error).__name__})") from None
    if found is None:
        raise CheckpointError("does not say whose it is")
    found = up_to_date(found)
    others = [name for name in owner if found.get(name) != owner[name]]
    if others:
        raise CheckpointError(f"is of another {' and '.join(others)}")
    return state


def up_to_date(owner: Owner) -> Owner:
    """Return an owner as an older version wrote it with what recipes have since, as it was then."""
    recipe = owner.get("recipe")
    return {**owner, "recipe": Recipe().model_dump(mode="json") | recipe} if isinstance(recipe, dict) else owner
