import hashlib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import typer
from optuna.trial import FixedTrial
from typer.testing import CliRunner

import run_search
from record.files import read_study
from record.same import plain
from record.study import StudyError
from repmlp import build, config_from_dict, config_to_dict
from repmlp.networks import NetworkConfig, training_id
from repmlp.networks.mixer import MIXERS
from repmlp.networks.pspnet import PSPNet
from repmlp.networks.repmlpnet import REPMLPNETS
from repmlp.paper import LIGHT_RES50, REPMLP_RES50, TABLES
from spaces.catalogue import SPACES, Space
from spaces.cifar_mlp import CifarMLPSpace
from spaces.enumeration import distinct, outcomes
from spaces.mixer import MixerSpace
from spaces.repmlpnet import RepMLPNetSpace
from spaces.resnet import FaceResNetSpace, PSPNetSpace, ResNet50Space, ResNetSmallSpace

optuna.logging.set_verbosity(optuna.logging.ERROR)
Image = tuple[int, tuple[int, int], int]
SETS = ((1, 3), (3, 1, 3), ("identity", 1))
SMALL: dict[str, tuple[Space, Image]] = {
    "cifar_mlp": (
        CifarMLPSpace(channels=((4, 6, 4), (8,)), blocks=(1,), partitions=(4, 8), groups=(4,), kernels=SETS),
        (1, (8, 8), 10),
    ),
    "resnet50": (
        ResNet50Space(widths=(0.25, 0.251), stages=("c3", "c4"), r=(1, 3), partitions=(2, 4), kernels=SETS),
        (2, (32, 48), 5),
    ),
    "resnet_small": (
        ResNetSmallSpace(widths=(0.25,), r=(2,), partitions=(2, (4, 2)), groups=(2,), kernels=((),)),
        (1, (16, 16), 10),
    ),
    "face_resnet": (
        FaceResNetSpace(
            widths=(0.25, 0.5), embedding=16, stages=("c4", "c2"), r=(2,), groups=(2,), kernels=SETS,
            kinds=("bottleneck", "plain", "glfp"), partitions=(3, 4),
        ),
        (3, (32, 48), 10),
    ),
    "pspnet": (
        PSPNetSpace(widths=(0.25,), channels=(8, 16), partitions=(3,), r=(2,), groups=(4,), kernels=SETS),
        (2, (41, 41), 3),
    ),
    "repmlpnet": (
        RepMLPNetSpace(
            channels=(4, 6), blocks=((1,), (1, 2)), share_sets=((1, 4), (2, 3)), partitions=(2, 4),
            kernels=((), (1, 3), (3, 1)), reductions=(2, 3),
        ),
        (1, (32, 64), 10),
    ),
    "mixer": (
        MixerSpace(
            patches=(4, 5, 8), channels=(8, 12), blocks=(1,), expansions=(2,), partitions=(2, 4), groups=(8, 3),
            kernels=SETS, reductions=(0, 1, 40),
        ),
        (1, (16, 16), 10),
    ),
}  # fmt: skip
"""Spaces that hold few networks, with values that do not fit and values that give the same network."""
EVERY = pytest.mark.parametrize("name", SMALL)


def draws(space: Space, image: Image, number: int) -> list[tuple[dict[str, Any], NetworkConfig]]:
    """Return parameters and networks drawn at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    found = []
    for _ in range(number):
        trial = study.ask()
        found.append((trial, space.suggest(trial, *image)))
    return [(dict(trial.params), config) for trial, config in found]


@EVERY
def test_suggestions_are_canonical_survive_json_and_have_the_images_shape(name: str) -> None:
    kind = SPACES[name]
    networks = [config for _, config in draws(kind(), kind.images, 50)]
    assert len(set(networks)) > 20
    for config in networks:
        assert config == config.canonical()
        assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
        assert (config.in_channels, config.size) == kind.images[:2]
        assert config.classes == (1024 if name == "face_resnet" else kind.images[2])


@EVERY
def test_suggestions_build_and_run(name: str) -> None:
    space, (channels, size, classes) = SMALL[name]
    for _, config in draws(space, (channels, size, classes), 4):
        y = build(config).eval()(torch.randn(2, channels, *size))
        outputs = {"face_resnet": (16,), "pspnet": (classes, *size)}.get(name, (classes,))
        assert y.shape == (2, *outputs)


@EVERY
def test_the_default_network_builds(name: str) -> None:
    kind = SPACES[name]
    with torch.device("meta"):
        for _, config in draws(kind(), kind.images, 2):
            assert sum(p.numel() for p in build(config).parameters()) > 1e4


@EVERY
@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_the_count_is_that_of_all_distinct_networks(name: str) -> None:
    space, image = SMALL[name]
    ids: list[str] = []

    def objective(trial: optuna.Trial) -> float:
        ids.append(training_id(space.suggest(trial, *image)))
        return 0.0

    optuna.create_study(sampler=optuna.samplers.BruteForceSampler()).optimize(objective)
    assert space.count(*image) == len(set(ids))
    assert len(set(ids)) >= 15
    assert len(set(ids)) < len(ids) or name == "resnet_small"


def test_counts_worked_out_by_hand() -> None:
    image = ResNet50Space.images
    # c2: c = 32, 16, 8 for r = 2, 4, 8 and 32 in a Light Block, of which g=16 does not divide 8; 2 partitions, 4 sets.
    assert ResNet50Space(stages=("c2",)).count(*image) == 1 + (3 * 4 + 3) * 2 * 4
    assert ResNet50Space(stages=("c5",)).count(*image) == 1 + 4 * 4 * 1 * 4  # its map is 7x7
    assert ResNet50Space().count(*image) == 121 * 129 * 129 * 65
    assert ResNet50Space(depths=(50, 101)).count(*image) == 2 * 121 * 129 * 129 * 65
    assert PSPNetSpace().count(*PSPNetSpace.images) == (1 + 2 * 2 * 3 * 3 * 2) ** 2
    # Patches of 16: 14x14 tokens, with a Global Perceptron at h=7; patches of 32: 7x7 tokens.
    assert MixerSpace().count(*MixerSpace.images) == 24 * (1 + 3 * 3 * (2 + 1)) + 24 * (1 + 3 * 3)


def bottleneck(stage: str, r: int, g: str, **others: object) -> dict[str, object]:
    return {f"{stage}.kind": "bottleneck", f"{stage}.r": r, f"{stage}.groups": int(g)} | {
        f"{stage}.{name}": value for name, value in others.items()
    }


PLAIN = {"c2.kind": "plain", "c3.kind": "plain", "c4.kind": "plain", "c5.kind": "plain"}
AT_7 = {"partition": 7, "kernels": "(1, 3, 5)"}
AT_10 = {"partition": 10, "kernels": "(1, 3, 5, 7)"}
AT_6 = {"partition": 6, "kernels": "(1, 3, 5)"}
LIGHT = {f"{c}.{k}": v for c in ("c3", "c4") for k, v in {"kind": "light", "groups": 8, **AT_7}.items()}
T224: dict[str, object] = {"channels": 64, "kernels": "(1, 3)", "reduction": 4}
T224 |= {f"stage{i}.blocks": b for i, b in enumerate((2, 2, 6, 2), start=1)}
T224 |= {f"stage{i}.share_sets": s for i, s in enumerate((1, 4, 16, 128), start=1)}
T224 |= {"stage1.partition": 56, "stage2.partition of 7, 14, 28": 28, "stage3.partition of 7, 14": 14}
MIXER = {"patch": 16, "expansion": 4, "mixing": "host"}


@pytest.mark.parametrize(
    ("space", "params", "network"),
    [
        (ResNet50Space(), PLAIN | bottleneck("c3", 2, "8", **AT_7) | bottleneck("c4", 4, "8", **AT_7), REPMLP_RES50),
        (ResNet50Space(), PLAIN | LIGHT, LIGHT_RES50),
        (
            FaceResNetSpace(),
            bottleneck("c2", 2, "4", **AT_6) | bottleneck("c3", 2, "4", **AT_6) | bottleneck("c4", 2, "4", **AT_6),
            TABLES[5]["RepMLP-FaceRes"],
        ),
        (
            PSPNetSpace(),
            bottleneck("c3", 2, "4", reduction=4, **AT_10) | bottleneck("c4", 4, "8", reduction=8, **AT_10),
            TABLES[6]["RepMLP-Res50-g4/8"],
        ),
        (RepMLPNetSpace(), T224, REPMLPNETS["T224"]),
        (MixerSpace(), {**MIXER, "style": "mixer", "channels": 512, "blocks": 8}, MIXERS["Mixer-S/16"]),
        (MixerSpace(), {**MIXER, "style": "resmlp", "channels": 384, "blocks": 12}, MIXERS["ResMLP-S12"]),
    ],
    ids=["RepMLP-Res50", "Light", "RepMLP-FaceRes", "PSPNet", "T224", "Mixer-S/16", "ResMLP-S12"],
)
def test_published_networks_lie_in_their_spaces(
    space: Space, params: dict[str, object], network: NetworkConfig
) -> None:
    assert space.suggest(FixedTrial(params), *space.images) == network.canonical()


def test_baselines_lie_in_their_spaces() -> None:
    plain = [TABLES[2]["ResNet-50"], TABLES[5]["FaceResNet"], TABLES[6]["ResNet-50"]]
    for space, network in zip((ResNet50Space(), FaceResNetSpace(), PSPNetSpace()), plain, strict=True):
        params = {name: kind for name, kind in PLAIN.items() if name[:2] in space.stages}
        assert space.suggest(FixedTrial(params), *space.images) == network.canonical()


@EVERY
def test_parameters_exist_only_where_they_matter(name: str) -> None:
    kind = SPACES[name]
    seen = set()
    for params, config in draws(kind(), kind.images, 50):
        asked: dict[str, set[str]] = {}
        for parameter in params:
            stage, _, what = parameter.partition(" of ")[0].rpartition(".")
            asked.setdefault(stage, set()).add(what)
        if name == "mixer":
            assert bool(asked.get("mixing")) == (config.mixing is not None)
        if name in ("mixer", "repmlpnet"):
            continue
        backbone = config.backbone if isinstance(config, PSPNet) else config
        stages = zip(backbone.stages, backbone.stage_sizes(), strict=True)
        for label, (stage, maps) in zip(("1", "2", "3") if name == "cifar_mlp" else ("c2", "c3", "c4", "c5"), stages):
            given = asked.get(f"stage{label}" if name == "cifar_mlp" else label, set()) - {"kind", "channels", "blocks"}
            block = stage.block if name == "cifar_mlp" else stage.repmlp
            if (stage.block.kind if name == "cifar_mlp" else stage.kind) in ("conv", "plain"):
                assert not given
                continue
            seen |= given
            assert "groups" in given
            assert ("r" in given) == (name != "cifar_mlp" and stage.kind == "bottleneck")
            assert ("reduction" in given) == (block.partition != maps and len(kind().reductions) > 1)
    expected = {
        "cifar_mlp": {"partition", "groups", "kernels", "reduction"},
        "resnet50": {"r", "partition", "groups", "kernels"},
        "resnet_small": {"r", "partition", "groups", "kernels", "reduction"},
        "face_resnet": {"r", "partition", "groups", "kernels"},
        "pspnet": {"r", "partition", "groups", "kernels", "reduction"},
    }
    assert seen == expected.get(name, set())


def test_a_stage_too_small_for_repmlp_stays_plain() -> None:
    trial = optuna.create_study().ask()
    config = ResNet50Space(kinds=("light", "plain")).suggest(trial, 3, (96, 96), 10)  # maps 24, 12, 6, 3
    assert {"c2.kind", "c3.kind"} <= set(trial.params)
    assert not [p for p in trial.params if p.startswith(("c4", "c5"))]
    assert [s.kind for s in config.stages[2:]] == ["plain", "plain"]


@pytest.mark.parametrize("space", [CifarMLPSpace(), MixerSpace()], ids=["cifar_mlp", "mixer"])
def test_a_map_too_small_for_repmlp_has_what_else_there_is(space: Space) -> None:
    image = (3, (32, 32), 10)  # 8x8 in the last stage of cifar_mlp; 2x2 or one token
    configs = [config for _, config in draws(replace(space, partitions=(9,)), image, 10)]
    kinds = {c.mixing if space.name == "mixer" else c.stages[-1].block.kind for c in configs}
    assert kinds == ({None} if space.name == "mixer" else {"conv"})


@pytest.mark.parametrize(
    ("space", "image", "message"),
    [
        (CifarMLPSpace(kinds=("repmlp",)), (3, (6, 6), 10), "stage1.partition: none of 7, 14 fits"),
        (ResNet50Space(kinds=("bottleneck",)), (3, (96, 96), 10), "c4.partition: none of 7, 14 fits"),
        (ResNet50Space(kinds=("bottleneck",), r=(3, 5)), (3, (96, 96), 10), "c2.r: none of 3, 5 fits"),
        (PSPNetSpace(kinds=("light",), groups=(7,)), (3, (161, 161), 10), "c3.groups: none of 7 fits"),
        (RepMLPNetSpace(), (3, (32, 32), 10), "stage1.partition: none of 7, 14, 28, 56 fits"),
        (RepMLPNetSpace(partitions=(1, 2)), (3, (36, 36), 10), "divisible by 32"),
        (RepMLPNetSpace(reductions=(7,)), (3, (224, 224), 10), "reduction: none of 7 fits"),
        (MixerSpace(), (3, (50, 64), 10), "patch: none of 16, 32 fits"),
        (MixerSpace(mixing=("repmlp",)), (3, (96, 96), 10), "mixing.partition: none of 7, 14 fits"),
        (CifarMLPSpace(channels=((4,),) * 4), (3, (7, 7), 10), "halved 3 times"),
    ],
)
def test_a_space_without_a_network_says_why(space: Space, image: Image, message: str) -> None:
    for ask in (space.count, lambda *i: space.suggest(optuna.create_study().ask(), *i)):
        with pytest.raises(ValueError, match=re.escape(message)):
            ask(*image)


def test_all_outcomes_are_visited_once() -> None:
    def ask(trial: Any) -> tuple[str, ...]:
        first = trial.suggest_categorical("first", ("a", "b", "c"))
        if first == "b":
            return first, trial.suggest_categorical("second", "xy"), trial.suggest_categorical("third", "uvw")
        return (first,)

    assert list(outcomes(ask)) == [("a",), *(("b", x, u) for x in "xy" for u in "uvw"), ("c",)]
    assert distinct(lambda trial: trial.suggest_categorical("x", (1, 2, 1))) == 2
    assert list(outcomes(lambda _: 5)) == [5]


FIELD_ERRORS = [
    ({"r": [0]}, "r=0 must be a positive integer"),
    ({"widths": [-1]}, "widths=(-1.0,) must be positive factors"),
    ({"stages": []}, "stages must offer at least one value"),
    ({"reductions": [-1]}, "reductions=(-1,) must not be negative"),
    ({"partitions": [[7, 0]]}, "partition=(7, 0) must be a positive"),
    ({"kernels": [["1x1-2x2"]]}, "must be odd"),
    ({"depths": [34]}, "space.depths.0=34: should be 50 or 101"),
    ({"kinds": ["heavy"]}, "space.kinds.0='heavy': should be 'plain', 'bottleneck', 'light' or 'glfp'"),
    ({"reduction": [1]}, "unknown key space.reduction; did you mean reductions?"),
    ({"name": "face_resnet", "embeding": 7}, "unknown key space.embeding; did you mean embedding?"),
    ({"name": "face_resnet", "embedding": 0}, "embedding=0 must be a positive integer"),
    ({"name": "pspnet", "channels": [0]}, "channels=0 must be a positive integer"),
    ({"name": "repmlpnet", "share_set": [1]}, "unknown key space.share_set; did you mean share_sets?"),
    ({"name": "repmlpnet", "blocks": [[1]]}, "blocks has 1 entries and share_sets 4"),
    ({"name": "repmlpnet", "blocks": [[1], [], [1], [1]]}, "blocks of stage 2 are ()"),
    ({"name": "repmlpnet", "kernels": [["identity"]]}, "space.kernels.0.0"),
    ({"name": "repmlpnet", "patch": 0}, "patch=0 must be a positive integer"),
    ({"name": "mixer", "patch": [16]}, "unknown key space.patch; did you mean patches?"),
    ({"name": "mixer", "expansions": [0]}, "expansions=0 must be a positive integer"),
    ({"name": "resnet"}, f"space.name='resnet' must be one of {', '.join(SPACES)}, or my_package"),
    ({"name": None, "groups": [1]}, f"space.name is missing: it must be one of {', '.join(SPACES)}, or my_package"),
]


@pytest.mark.parametrize(("values", "message"), FIELD_ERRORS, ids=[str(values) for values, _ in FIELD_ERRORS])
def test_a_wrong_space_names_the_key_the_value_and_the_rule(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    values = {k: v for k, v in {"name": "resnet50", **values}.items() if v is not None}
    study = tmp_path / "study.yaml"
    study.write_text(f"space: {json.dumps(values)}")
    with pytest.raises(StudyError) as error:
        read_study(study)
    assert message in str(error.value)
    assert ".resnet50" not in str(error.value)


@EVERY
def test_a_study_chooses_a_space_by_its_name(name: str, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"space: {{name: {name}, kernels: [[], [[1, 3]]]}}")
    read = read_study(study)
    assert read.space == replace(SPACES[name](), kernels=((), ((1, 3),)))
    assert set(plain(read)["space"]) == {f.name for f in fields(read.space)}


@pytest.mark.parametrize(
    ("study", "image", "first", "all_of_them"),
    [
        ("default", (1, (16, 16), 10), "09cb2c2b653e64df", "21c886e6c2cbb90d"),
        ("cifar_mlp", (3, (32, 32), 10), "614974cdccda3028", "b7be2c7b2a730be7"),
    ],
)
def test_ready_made_studies_keep_their_networks(study: str, image: Image, first: str, all_of_them: str) -> None:
    space = read_study(Path(f"studies/{study}.yaml")).space
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    ids = [training_id(space.suggest(sampler.ask(), *image)) for _ in range(200)]
    assert ids[0] == first
    assert hashlib.sha256("".join(ids).encode()).hexdigest()[:16] == all_of_them


def test_the_spaces_are_listed_without_a_study() -> None:
    app = typer.Typer()
    app.command()(run_search.main)
    done = CliRunner().invoke(app, ["--spaces"])
    assert done.exit_code == 0
    assert all(f"│ {name} " in done.stdout for name in SPACES)
    assert "130,881,465" in done.stdout
    assert "3x713x713, 19 classes" in done.stdout
