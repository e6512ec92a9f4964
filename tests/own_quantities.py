"""Quantities of a user's own."""

from dataclasses import dataclass

from record.quantities import Direction, Quantity
from repmlp import build
from repmlp.networks import NetworkConfig


@dataclass(frozen=True)
class Kilobytes(Quantity):
    """Size of the converted network's weights in float32."""

    name: str = "bytes"
    title: str = "size"
    unit: str = "kB"
    better: Direction | None = "minimize"
    divisor: float = 1000

    def count(self, network: NetworkConfig) -> float:
        """Return the bytes."""
        return 4.0 * sum(p.numel() for p in build(network, deploy=True).parameters())
