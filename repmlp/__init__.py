"""RepMLP (arXiv 2105.01883) in PyTorch: the block, its conversion, and networks made of it."""

from repmlp.block import RepMLP
from repmlp.config import ConvBlock, RepMLPBlock
from repmlp.convert import convert
from repmlp.networks import build, config_from_dict, config_to_dict, deploy_id, training_id
from repmlp.networks.cifar import CifarNet, Stage
from repmlp.saved import load

__all__ = [
    "CifarNet",
    "ConvBlock",
    "RepMLP",
    "RepMLPBlock",
    "Stage",
    "build",
    "config_from_dict",
    "config_to_dict",
    "convert",
    "deploy_id",
    "load",
    "training_id",
]
