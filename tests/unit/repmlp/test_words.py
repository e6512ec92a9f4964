"""Whatever is not a value of a field is refused where the field is defined, never built as something else."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from repmlp import config_from_dict, config_to_dict
from repmlp.config import ConvBlock
from repmlp.networks.mixer import MIXERS
from repmlp.networks.pspnet import pspnet
from repmlp.networks.resnet import face_resnet, resnet
from tests.unit.repmlp.test_networks import FAMILIES


def parts(value: Any) -> Iterator[Any]:
    """Yield a configuration and all that it is made of."""
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from parts(part)


EVERY = {type(part): part for config in FAMILIES.values() for part in parts(config)} | {ConvBlock: ConvBlock()}
WRONG = [
    pytest.param(kind, name, value, id=f"{kind.__name__}.{name}={value}")
    for kind in EVERY
    for name, type_ in get_type_hints(kind).items()
    for value in ("nonsense", 1.5, True, None, -1, b"x", {"nonsense": 1}, (-4,))
    if type_ is not type(value) and (value is not None or NoneType not in get_args(type_))
]


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_what_is_not_a_value_of_a_field_is_refused_by_name(kind: type, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name.removesuffix("s")) as caught:
        replace(EVERY[kind], **{name: value})
    assert any(given in str(caught.value) for given in (f"={value!r}", "=-4", "nonsense", "kind=None"))


RESNET, PSPNET = config_to_dict(resnet()), config_to_dict(pspnet())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(34), "depth=34 must be one of 50, 101."),  # type: ignore[arg-type]
        (lambda: resnet("50"), "depth='50' must be one of 50, 101."),  # type: ignore[arg-type]
        (lambda: resnet(stem="imagnet"), "stem='imagnet' must be one of imagenet, face, small."),
        (lambda: resnet(head="pol"), "head='pol' must be one of pool, flatten, none."),
        (lambda: resnet(50, {"c3": {"context": "gcc"}}), "context='gcc' must be one of gc, nonlocal, None."),
        (lambda: resnet(50, {"c3": {"kind": "heavy"}}), "kind='heavy' must be one of plain, bottleneck, light, glfp."),
        (lambda: resnet(50, {"c3": {"kin": "light"}}), "stage c3 has no kin; it has blocks, channels, context"),
        (lambda: resnet(50, {"c6": {}}), "stage='c6' must be one of c2, c3, c4, c5."),
        (lambda: resnet(50, {"c3": "light"}), "stage c3='light' must be fields of a ResNetStage by name."),  # type: ignore[dict-item]
        (lambda: resnet(50, ["c3"]), "stages=['c3'] must be stages c2 to c5 by name."),  # type: ignore[arg-type]
        (lambda: resnet(width="wide"), "width='wide' must be a positive, finite number"),  # type: ignore[arg-type]
        (lambda: resnet(width=float("nan")), "width=nan must be a positive, finite number"),
        (lambda: face_resnet({"c6": {}}), "stage='c6' must be one of c2, c3, c4, c5."),
        (lambda: face_resnet(width=-1), "width=-1 must be a positive, finite number"),
        (lambda: pspnet(stages={"c6": {}}), "stage='c6' must be one of c2, c3, c4, c5."),
        (lambda: pspnet(stages={"c4": 5}), "stage c4=5 must be fields of a ResNetStage by name."),  # type: ignore[dict-item]
        (lambda: pspnet(stages={"c4": {"kind": "heavy"}}), "stage c4: kind='heavy' must be one of plain, bottleneck"),
        (lambda: pspnet(width=0), "width=0 must be a positive, finite number"),
        (lambda: config_from_dict({**RESNET, "stem": "imagnet"}), "resnet: stem='imagnet' must be one of imagenet"),
        (lambda: config_from_dict({**RESNET, "stages": [{}]}), "resnet: stages.0 needs channels, blocks too"),
        (lambda: config_from_dict({"kind": "resnet"}), "resnet needs stages too; given are no fields."),
        (lambda: config_from_dict({**PSPNET, "backbone": 5}), "pspnet: backbone=5 must be fields of a ResNet by name."),
        (
            lambda: config_from_dict({"kind": "cifar", "stages": [{"channels": 4, "block": {"kind": "cnv"}}]}),
            "cifar: stages.0: block: kind='cnv' must be one of repmlp, conv.",
        ),
        (lambda: replace(MIXERS["Mixer-S/16"], style="mlp"), "style='mlp' must be one of mixer, resmlp."),
    ],
)
def test_a_wrong_word_is_answered_with_those_that_there_are(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
