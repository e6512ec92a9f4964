"""Rivals: any classifier of timm, under the interface of the other networks."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import nn

from repmlp.checks import Size, check_fields


@dataclass(frozen=True, kw_only=True)
class TimmNet:
    """A classifier of timm, by name, with fresh weights.

    One whose layers depend on the size of the images is made for the data's.
    """

    kind: Literal["timm"] = "timm"
    model: str
    in_channels: int = 3
    size: Size = (224, 224)
    classes: int = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.model, str):
            raise ValueError(f"model={self.model!r} must be the name of one of timm's")
        if not timm().is_model(self.model):
            near = ", ".join(timm().list_models(f"*{self.model[:6]}*")[:5]) or "see timm.list_models()"
            raise ValueError(f"model={self.model!r} is not one of timm's; some are {near}")

    def canonical(self) -> Self:
        """Return the network itself: all of it has an effect."""
        return self

    def deployed(self) -> Self:
        """Return the network itself: what its conversion leaves has no configuration of its own."""
        return self

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, converted.

        Raises:
            ValueError: if it cannot be made for such images.
        """
        from repmlp.convert import convert

        where = torch.get_default_device()
        with torch.device("cpu"):  # timm computes with values as it builds
            model = convert(self.made()) if deploy else self.made()
        return model.to(where)

    def made(self) -> nn.Module:
        """Return the network, made for the size of the images if it has to know it, and tried on one."""
        given: dict[str, Any] = {"num_classes": self.classes, "in_chans": self.in_channels}
        try:
            try:
                model = timm().create_model(self.model, pretrained=False, **given, img_size=self.size)
            except TypeError as error:
                if "img_size" not in str(error):
                    raise
                model = timm().create_model(self.model, pretrained=False, **given)
            with torch.inference_mode():
                model.eval()(torch.zeros(1, self.in_channels, *self.size))
            return model.train()
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"timm's {self.model} cannot be made for {self.size[0]}x{self.size[1]}: {said}") from None

    def describe(self) -> str:
        """Return the network's name."""
        return f"timm {self.model}"

    def placement(self) -> str:
        """Return none: it holds no RepMLP."""
        return "none"


def timm() -> Any:
    """Return the package.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import timm
    except ImportError:
        raise ValueError("networks of timm need the package timm; pip install timm") from None
    return timm
