"""Recorded tables: networks whose learning curves and costs are known, to replay searches on.

A table is a parquet file with a row a network: `config` (JSON), `training_id`, `deploy_id`, `params`, `macs`,
`throughput` (images/s; missing where it was not measured), and two lists of equal length, `accuracy` (percent on the
validation split, after each recorded epoch) and `seconds` (of training, since the epoch before). Its metadata hold the
`space`, as a study file writes it, and the `image` (channels, (H, W), classes); `epochs` counts the recorded ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from record.plugins import Plugged
from repmlp import training_id
from search.networks import Description, Image
from spaces.choices import Trial

Floats = NDArray[np.float64]
SPACE: TypeAdapter[Any] = TypeAdapter(Annotated[Any, Plugged("space")])


class TableError(ValueError):
    """A table that cannot be used; the message says why."""


@dataclass(frozen=True)
class ChoiceSpace:
    """A space of independent choices, of which a table holds some networks: the nearest of those is meant.

    Args:
        choices: name to the values of each parameter.
        genomes: `(n, parameters)`, int8, the index of the value that each network of the table takes.
    """

    choices: Mapping[str, tuple[Any, ...]]
    genomes: NDArray[np.int8] = field(repr=False)

    @cached_property
    def takes(self) -> list[NDArray[np.uint8]]:
        """For each parameter, `(values, n)`, 1 where a network takes the value."""
        columns = zip(self.choices.values(), self.genomes.T, strict=True)
        return [np.equal.outer(np.arange(len(values)), column).astype(np.uint8) for values, column in columns]

    def suggest(self, trial: Trial, *_: Any) -> int:
        """Ask `trial` for a network, and return its row in the table; the first of those that differ least."""
        chosen = [values.index(trial.suggest_categorical(name, values)) for name, values in self.choices.items()]
        alike = [self.takes[parameter][value] for parameter, value in enumerate(chosen)]
        return int(np.add.reduce(alike, axis=0, dtype=np.uint8).argmax())

    def config(self, row: int) -> dict[str, Any]:
        """Return the values of a network by name."""
        return {name: v[g] for (name, v), g in zip(self.choices.items(), self.genomes[row], strict=True)}


@dataclass(frozen=True)
class Table:
    """Networks with their learning curves and costs.

    Args:
        name: for messages.
        space: what searches are given; a space of `spaces/`, or a `ChoiceSpace`.
        image: of the data, for `space.suggest`.
        descriptions: of each network; `training_id` is unique.
        accuracy: `(n, epochs)`, percent.
        seconds: `(n, epochs)`, of each epoch.
        throughput: `(n,)`, images/s; None if unknown.
        restarts: whether the last epoch stands for a whole training, which goes on from nothing before it.
    """

    name: str
    space: Any
    image: Image
    descriptions: Sequence[Description]
    accuracy: Floats
    seconds: Floats
    throughput: Floats | None = None
    restarts: bool = False

    @property
    def whole(self) -> Floats:
        """Seconds of training to the end without a stop, `(n,)`."""
        return self.seconds[:, -1] if self.restarts else self.seconds.sum(1)

    @property
    def epochs(self) -> int:
        return self.accuracy.shape[1]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Training id to row."""
        return {d.training_id: row for row, d in enumerate(self.descriptions)}

    def suggest(self, trial: Trial) -> Any:
        """Ask `trial` for a network."""
        return self.space.suggest(trial, *self.image)

    def given(self, values: Mapping[str, Any]) -> Any:
        """Raise ValueError: a table knows its own networks alone."""
        raise ValueError(f"{values} is not in the table; name networks of its space by their parameters.")

    def identify(self, network: Any) -> tuple[dict[str, Any], str]:
        """Return the configuration and training id of what `suggest` gave."""
        description = self.describe(network)
        return description.config, description.training_id

    def describe(self, network: Any) -> Description:
        """Return what is known before training of what `suggest` gave.

        Raises:
            TableError: if the table does not hold it.
        """
        if isinstance(network, int):
            return self.descriptions[network]
        row = self.rows.get(training_id(network))
        if row is None:
            raise TableError(f"{self.name} does not hold {network}; a table must hold all networks of its space.")
        return self.descriptions[row]

    def baseline(self) -> None:
        """Return nothing: what was recorded is taken as it is."""

    def values(self, objective: str) -> Floats:
        """Return an objective of each network, `(n,)`: the accuracy at the end, or a cost; latency is at batch 1."""
        if objective == "accuracy":
            return self.accuracy[:, -1]
        if objective in ("throughput", "latency"):
            if self.throughput is None:
                raise TableError(f"{self.name} has no throughput; choose accuracy with macs or params.")
            return self.throughput if objective == "throughput" else 1000 / self.throughput
        return np.array([float(d.costs[objective]) for d in self.descriptions])


def read_table(path: Path) -> Table:
    """Read a recorded table.

    Raises:
        TableError: if the file is missing or not of this format.
    """
    try:
        stored = pq.read_table(path)
        metadata = {k.decode(): json.loads(v) for k, v in (stored.schema.metadata or {}).items() if k != b"pandas"}
        columns = stored.to_pydict()
        space = SPACE.validate_python(metadata["space"])
        channels, (height, width), classes = metadata["image"]
        descriptions = [
            Description(json.loads(c), t, d, {"params": p, "macs": m})
            for c, t, d, p, m in zip(
                *(columns[k] for k in ("config", "training_id", "deploy_id", "params", "macs")), strict=True
            )
        ]
        return Table(
            name=path.stem,
            space=space,
            image=(channels, (height, width), classes),
            descriptions=descriptions,
            accuracy=np.array(columns["accuracy"], dtype=float),
            seconds=np.array(columns["seconds"], dtype=float),
            throughput=np.array(columns["throughput"], dtype=float),
        )
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise TableError(f"{path} is not a recorded table: {error}") from None


def write_table(path: Path, table: Table, about: Mapping[str, Any]) -> None:
    """Write a recorded table; `about` says in its metadata how it was made."""
    space = SPACE.dump_python(table.space, mode="json")
    rows = {
        "config": [json.dumps(d.config, sort_keys=True) for d in table.descriptions],
        "training_id": [d.training_id for d in table.descriptions],
        "deploy_id": [d.deploy_id for d in table.descriptions],
        "params": [d.costs["params"] for d in table.descriptions],
        "macs": [d.costs["macs"] for d in table.descriptions],
        "throughput": table.values("throughput"),
        "accuracy": [list(row) for row in table.accuracy.astype(np.float32)],
        "seconds": [list(row) for row in table.seconds.astype(np.float32)],
    }
    metadata = {"space": space, "image": table.image, "about": dict(about)}
    stored = pa.table(rows).replace_schema_metadata({k: json.dumps(v) for k, v in metadata.items()})
    pq.write_table(stored, path, compression="zstd")


def nas_bench_201(path: Path) -> Table:
    """Read NAS-Bench-201 (Dong and Yang 2020) on CIFAR-100 from its npz form: epochs are the 12th and the 200th.

    The training of 12 epochs had a schedule of its own, so going on from it is training from the start: its seconds
    are a 12/200 share, and those of the second are of all 200. Throughput is that of the measured latency at batch 1.
    """
    z = np.load(path)
    ops = tuple(str(op) for op in z["ops"])
    space = ChoiceSpace({str(edge): ops for edge in z["edges"]}, z["arch"])
    seconds = z["train_s200"].astype(float)
    return Table(
        name="nb201_cifar100",
        space=space,
        image=(3, (32, 32), 100),
        descriptions=described(space, z["params"], z["macs"]),
        accuracy=np.stack([z["val12"], z["val200"]], 1).astype(float),
        seconds=np.stack([seconds * 12 / 200, seconds], 1),
        throughput=1000 / z["lat_gpu_ms"].astype(float),
        restarts=True,
    )


def nas_bench_301(path: Path, second: bool = False) -> Table:
    """Read NAS-Bench-301 (Zela et al. 2022) from its npz form: 98 epochs that a surrogate predicts, or the second one.

    The table holds few of the cells of DARTS; `ChoiceSpace` takes the nearest.
    """
    z = np.load(path)
    inputs = {n: tuple(str(v) for v in z[n]) for n in ("in3", "in4", "in5")}
    ops = tuple(str(op) for op in z["ops"])
    choices = {name: inputs.get(name.rpartition("_")[2], ops) for name in (str(n) for n in z["genome_names"])}
    curves = np.cumsum(z["acc_v2_delta" if second else "acc_delta"].astype(np.int32), 1) / int(z["scale"])
    seconds = z["train_s98_v2" if second else "train_s98"].astype(float) / curves.shape[1]
    space = ChoiceSpace(choices, z["genome"])
    return Table(
        name="nb301_v2" if second else "nb301",
        space=space,
        image=(3, (32, 32), 10),
        descriptions=described(space, z["params"], z["macs"]),
        accuracy=curves,
        seconds=np.repeat(seconds[:, None], curves.shape[1], 1),
    )


def described(space: ChoiceSpace, params: NDArray[Any], macs: NDArray[Any]) -> list[Description]:
    """Return what is known of each network of a space of choices; its row is its id."""
    return [
        Description(space.config(row), str(row), str(row), {"params": int(p), "macs": int(m)})
        for row, (p, m) in enumerate(zip(params, macs, strict=True))
    ]
