"""The networks that a study may choose from, and what is known of each without training it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from record.quantities import Quantity
from record.study import Study
from repmlp import config_to_dict, deploy_id, training_id
from repmlp.networks import NetworkConfig
from search.measuring.costs import network_costs, training_costs
from spaces.choices import Plainest, Preset, Trial
from spaces.named import named

Image = tuple[int, tuple[int, int], int]
"""Channels, (H, W) and classes of the data."""


@dataclass(frozen=True)
class Description:
    """What is known of a network without training it."""

    config: dict[str, Any]
    """Its canonical configuration, as plain values."""
    training_id: str
    deploy_id: str
    costs: dict[str, float]
    """`params` and `macs` of the converted network, a user's own quantities that are counted, and of listed networks
    `training_params` and `training_macs`."""


class Networks(Protocol):
    """Where an engine gets networks from; what `suggest` and `given` give is passed on as it is."""

    def suggest(self, trial: Trial) -> Any:
        """Ask `trial` for a network."""

    def given(self, values: Mapping[str, Any]) -> Any:
        """Return the network of a description, as `spaces.named` has it, which need not be one of these."""

    def identify(self, network: Any) -> tuple[dict[str, Any], str]:
        """Return its canonical configuration and training id; cheap."""

    def describe(self, network: Any) -> Description:
        """Return its description, for which its operators are counted."""

    def baseline(self) -> dict[str, Any] | None:
        """Return the network beside which others are measured, as plain values; None for none."""


@dataclass(frozen=True)
class SpaceNetworks:
    """The networks of a space for images of one kind, and the quantities of a user's own that are counted of each."""

    space: Any
    image: Image
    own: tuple[Quantity, ...] = ()
    counted: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)
    """What was counted, by deploy id."""

    def suggest(self, trial: Trial) -> NetworkConfig:
        """Ask `trial` for a network.

        Raises:
            ValueError: if the space has none for such images.
        """
        return self.space.suggest(trial, *self.image)

    def given(self, values: Mapping[str, Any]) -> NetworkConfig:
        """Return the network of a description, which need not be one of the space's.

        Raises:
            ValueError: if the description is wrong.
        """
        return named(str(values.get("model", values.get("build", "given"))), values, *self.image)

    def identify(self, network: NetworkConfig) -> tuple[dict[str, Any], str]:
        """Return its canonical configuration and training id."""
        return config_to_dict(network), training_id(network)

    def describe(self, network: NetworkConfig) -> Description:
        """Return its canonical form, its ids and its counts; of listed networks also those in training.

        Raises:
            TooLargeError: if it has more parameters than anything here could train.
        """
        costs: dict[str, float] = {**network_costs(network), **self.own_costs(network)}
        if hasattr(self.space, "names"):
            before = training_costs(network)
            costs |= {"training_params": before["params"], "training_macs": before["macs"]}
        return Description(*self.identify(network), deploy_id(network), costs)

    def own_costs(self, network: NetworkConfig) -> dict[str, float]:
        """Return the quantities of a user's own, counted once for all networks with the same converted form."""
        if not self.own:
            return {}
        known = self.counted.setdefault(deploy_id(network), {})
        if not known:
            known |= {q.name: float(q.count(network)) for q in self.own}
        return known

    def baseline(self) -> dict[str, Any]:
        """Return the space's plainest network, or the first of those that it lists."""
        names = getattr(self.space, "names", None)
        trial = Preset({"network": names[0]}) if names else Plainest()
        return config_to_dict(self.space.suggest(trial, *self.image))


def networks_of(study: Study, image: Image) -> SpaceNetworks:
    """Return the networks that a study may choose from, for its data's images."""
    own = tuple(q for q in study.own if q.when == "counted")
    return SpaceNetworks(study.space, image, own)
