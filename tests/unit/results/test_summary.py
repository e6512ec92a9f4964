"""What networks say of themselves, and their ids, as recorded before configurations did so: recorded runs show them."""

import csv
import hashlib
from pathlib import Path

import optuna
import pytest

from repmlp import config_from_dict, config_to_dict, deploy_id, training_id
from repmlp.networks import NetworkConfig
from repmlp.networks.mixer import MIXERS
from repmlp.networks.repmlpnet import REPMLPNETS
from repmlp.paper import TABLES
from results.pivots import holders
from spaces.catalogue import SPACES
from tests.unit.repmlp.test_networks import FAMILIES

NETWORKS: dict[str, NetworkConfig] = {
    **{f"Table {number} {row}": config for number, rows in TABLES.items() for row, config in rows.items()},
    **{f"RepMLPNet-{name}": config for name, config in REPMLPNETS.items()},
    **MIXERS,
    **{f"small {name}": config for name, config in FAMILIES.items()},
}
with Path("tests/networks.csv").open(newline="") as file:
    RECORDED = {row["network"]: row for row in csv.DictReader(file)}


def test_every_network_is_recorded() -> None:
    assert RECORDED.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_described_in_one_line_and_keeps_its_ids(name: str) -> None:
    config, recorded = NETWORKS[name], RECORDED[name]
    values = config_to_dict(config)
    assert (config_from_dict(values).describe(), holders(values)) == (recorded["text"], recorded["placement"])
    assert (config.describe(), config.placement()) == (recorded["text"], recorded["placement"])
    assert (training_id(config), deploy_id(config)) == (recorded["training_id"], recorded["deploy_id"])


DRAWN = {
    "cifar_mlp": ("ac7a31cc227f805c", "82d3dcbf67dcb49f"),
    "resnet50": ("7f74e0940cc4108c", "05747610dc354a6a"),
    "resnet_small": ("f72c1ea2c2635d1e", "792dbc4f9b28a1a3"),
    "face_resnet": ("b1e2e0c095f2cd48", "1e6d112dc599b5d4"),
    "pspnet": ("9d180f682632dc05", "f65f7012a0da081e"),
    "repmlpnet": ("b3264e16011305c3", "fd38ee599b93f3a4"),
    "mixer": ("7407be229f6a35eb", "d3728f7b01f7f275"),
    "fixed": ("1eb9f80542109d23", "340d0ae14a29af08"),
    "ablation": ("397b4d87d3847845", "92558d64c1494465"),
}
"""Digest of the texts, and of the ids, of 100 networks of each space as it is by default."""


@pytest.mark.parametrize("name", DRAWN)
def test_networks_drawn_from_a_space_are_described_as_recorded_and_keep_their_ids(name: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, study = SPACES[name](), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [space.suggest(study.ask(), *space.images) for _ in range(100)]
    texts = "\n".join(f"{config.describe()} ({config.placement()})" for config in drawn)
    assert digest(texts) == DRAWN[name][0]
    assert digest("".join(training_id(config) + deploy_id(config) for config in drawn)) == DRAWN[name][1]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
