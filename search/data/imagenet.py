"""ImageNet, always streamed."""

from typing import Literal

from search.data.image_folder import StreamedClasses


class ImageNet(StreamedClasses):
    """`root/train/<class>/*` and `root/val/<class>/*` as test, read and augmented by workers as training goes."""

    name: Literal["imagenet"] = "imagenet"
