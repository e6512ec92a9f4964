from typing import Any

import pytest

from repmlp import RepMLPBlock
from repmlp.networks.resnet import resnet
from repmlp.paper import TABLES
from spaces.ablations import AblationSpace
from spaces.variants import changed, sweep

CIFAR = (3, (32, 32), 10)
IMAGENET = (3, (224, 224), 1000)
TABLE_1 = {
    "B) w/o Local": "without_local",
    "C) w/o Global": "without_global",
    "D) FC3 as conv9": {"fc3_as_conv": 9},
    "E) RepMLP as conv9": {"repmlp_as_conv": 9},
    "Wide ConvNet": "wide_convnet",
}


@pytest.mark.parametrize("row", TABLE_1)
def test_changes_of_the_pure_mlp_give_the_papers_rows(row: str) -> None:
    space = AblationSpace(variants=TABLE_1)  # type: ignore[arg-type]
    assert space.network(row, *CIFAR) == TABLES[1][row].canonical()


@pytest.mark.parametrize(
    ("change", "table", "row"),
    [
        ({"stages": "c3 c4"}, 3, "c3 c4"),
        ({"stages": "c2 c3 c4"}, 3, "c2 c3 c4"),
        ({"stages": []}, 3, "none"),
        ({"stages": ["c4"]}, 2, "r=4 g=8"),
        ({"stages": "c4", "groups": 2}, 2, "r=4 g=2"),
        ({"stages": "c4", "r": 8}, 2, "r=8 g=8"),
        ({"stages": "c3 c4", "block_kind": "light"}, 7, "RepMLP Light"),
    ],
)
def test_changes_of_the_largest_resnet_give_the_papers_rows(change: dict[str, Any], table: int, row: str) -> None:
    space = AblationSpace(base={"table": 3, "row": "c2 c3 c4 c5"}, variants={"it": change})
    assert space.network("it", *IMAGENET) == TABLES[table][row].canonical()


def test_a_field_is_set_wherever_its_place_is() -> None:
    base = TABLES[1]["Pure MLP"]
    assert changed(base, {"stages.*.block.groups": 4}) == changed(base, {"groups": 4})
    first = changed(base, {"stages.0.block.groups": 4}).stages  # type: ignore[union-attr]
    assert [stage.block.groups for stage in first] == [4, 2, 2]  # type: ignore[union-attr]


def test_branches_are_added_to_those_there() -> None:
    block = changed(TABLES[1]["Pure MLP"], {"branches": ["identity", "1x1-3x3"]}).stages[0].block  # type: ignore[union-attr]
    assert isinstance(block, RepMLPBlock)
    assert block.kernels == ((1, 1), (3, 3), (5, 5), (7, 7), "1x1-3x3", "identity")


def test_sweeps_name_their_variants() -> None:
    assert list(sweep("groups", [1, 2])) == ["groups=1", "groups=2"]
    assert list(sweep("partition", [4, [4, 8]])) == ["partition=4", "partition=4x8"]
    assert list(sweep("stages", ["c3", ["c3", "c4"]])) == ["stages=c3", "stages=c3+c4"]
    assert sweep("kernels_alone", [1, 3]) == {"K={1}": {"kernels": [1]}, "K={3}": {"kernels": [3]}}
    assert list(sweep("kernels_cumulative", [1, 3, 5])) == ["K={1}", "K={1, 3}", "K={1, 3, 5}"]


def test_the_base_comes_first_and_is_called_as_its_row() -> None:
    space = AblationSpace(sweeps={"groups": [1, 2]})
    assert space.names == ["Pure MLP", "w/o Local", "groups=1", "groups=2"]
    assert space.count(*CIFAR) == 3  # g=2 is the base's


def test_a_network_of_its_own_may_stand_beside_the_base() -> None:
    space = AblationSpace(base={"build": "resnet"}, variants={"ResNet-101": {"build": "resnet", "depth": 101}})
    assert space.names == ["base", "ResNet-101"]
    assert space.network("ResNet-101", *IMAGENET) == resnet(101).canonical()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("without_locl", "no such change; known are without_local"),
        ({"fc3_as_conv": 4}, "odd"),
        ({"r": 2}, "is for ResNets, not for cifar"),
        ({"stages": "stage1 c3"}, "has no stage c3; there are stage1, stage2, stage3"),
        ({"stages.*.block.group": 2}, "there is no group; there are kind, partition, groups"),
        ({"stages.5.block.groups": 2}, "there is no 5; there are 0, 1, 2"),
        ({"groups": 3}, "groups=3 does not divide C=16"),
        ({"kernels": 3}, "kernels"),
        ({"groups": 2}, "is the base itself"),
        ({"table": 1, "row": "Pure"}, "its rows are Pure MLP"),
        ({"table": 9, "row": "Pure"}, "must be one of 1, 2"),
        ({"build": "vgg"}, "must be one of resnet"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(change: Any, message: str) -> None:
    space = AblationSpace(variants={"it": change})
    with pytest.raises(ValueError, match="'it'") as caught:
        space.network("it", *CIFAR)
    assert message in str(caught.value)


def test_a_variant_may_not_bear_the_bases_name() -> None:
    with pytest.raises(ValueError, match="is called 'Pure MLP' as the base is"):
        AblationSpace(variants={"Pure MLP": "without_local"})
    with pytest.raises(ValueError, match="at least one change"):
        AblationSpace(variants={})
    with pytest.raises(ValueError, match="kernel_alone is not one of kernels_alone"):
        _ = AblationSpace(sweeps={"kernel_alone": [1]}).names
