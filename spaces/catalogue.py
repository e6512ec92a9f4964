"""All spaces by name, and what each offers."""

import inspect
from dataclasses import fields
from typing import get_args

from spaces.ablations import AblationSpace
from spaces.cifar_mlp import CifarMLPSpace
from spaces.fixed import FixedSpace
from spaces.mixer import MixerSpace
from spaces.repmlpnet import RepMLPNetSpace
from spaces.resnet import FaceResNetSpace, PSPNetSpace, ResNet50Space, ResNetSmallSpace

Space = (
    CifarMLPSpace
    | ResNet50Space
    | ResNetSmallSpace
    | FaceResNetSpace
    | PSPNetSpace
    | RepMLPNetSpace
    | MixerSpace
    | FixedSpace
    | AblationSpace
)
"""Each has `name`, `images` (typical channels, (H, W) and classes), `suggest` and `count`."""
SPACES: dict[str, type[Space]] = {kind.name: kind for kind in get_args(Space)}


def named(name: str) -> type[Space]:
    """Return the space of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SPACES:
        raise ValueError(f"must be one of {', '.join(SPACES)}, or my_package.module:Name of your own space")
    return SPACES[name]


def listing() -> list[dict[str, str]]:
    """Return a row for each space as it is by default: name, typical images, number of networks, fields, purpose."""
    rows = []
    for name, kind in SPACES.items():
        channels, (height, width), classes = kind.images
        rows.append(
            {
                "space": name,
                "what": (inspect.getdoc(kind) or "").partition("\n")[0],
                "images": f"{channels}x{height}x{width}, {classes:,} classes",
                "networks": f"{kind().count(*kind.images):,}",
                "parameters": ", ".join(f.name for f in fields(kind) if f.name != "name"),
            }
        )
    return rows
