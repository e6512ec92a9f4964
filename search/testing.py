"""Whether what one brings behaves: a check for each kind of plug-in, to call in one's own tests, with any test runner.

Each takes a second or two, and raises AssertionError with a sentence that says what is wrong and what is required:

    from search.testing import check_space

    def test_my_space():
        check_space(MySpace(widths=(8, 16)), image=(3, (32, 32), 10))

Give small images, sets and networks; what is right for them is right for large ones.
"""

import contextlib
import itertools
import json
import math
import pickle
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import torch
from optuna.storages import InMemoryStorage
from torch import Tensor

from record.measure import Measurement
from record.plugins import Plugged, arguments, import_path
from record.quantities import Quantity
from record.same import plain
from record.study import Search
from record.trial import EpochResult, Final
from repmlp import config_from_dict, config_to_dict, convert, deploy_id, training_id
from repmlp.networks import NetworkConfig, class_of, kind_of
from search.candidate import Job, Report
from search.data import DataError, Source, TaskName
from search.data.segments import IGNORED
from search.engine import Engine
from search.journal import Journal
from search.measuring.costs import input_shape, network_costs
from search.networks import Image, SpaceNetworks
from search.samplers.proposing import STARTUP, Draw
from spaces.enumeration import outcomes

DRAWS = 30
ENUMERATED = 2000
"""Spaces are walked whole if they ask no more sequences of questions than that."""
TOLERANCE = 1e-10
"""Of a converted network in float64, relative to the largest output."""
Epoch = list[tuple[Tensor, Tensor]]


def require(condition: object, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the condition holds, with `python -O` too."""
    if not condition:
        raise AssertionError(sentence)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Turn any error into an AssertionError that says what failed."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} fails with {type(error).__name__}: {error}") from error


def check_written(family: str, value: Any) -> None:
    """Check that a study can hold an object, write it and read it back, and send it to workers."""
    name = type(value).__name__
    with working(f"Writing {name} into a study and reading it"):
        field = Plugged(family)
        again = field.validated(json.loads(json.dumps(field.written(field.validated(value)))))
        require(again == value, f"{name} is read as {again} once it is written; equal arguments give equal objects.")
        require(pickle.loads(pickle.dumps(value)) == value, f"{name} differs from itself after pickling.")


class Asked(Draw):
    """A trial that notes what it is asked, and refuses what no sampler could answer."""

    def __init__(self, generator: np.random.Generator, known: dict[str, tuple[Any, ...]]) -> None:
        super().__init__(generator)
        self.known, self.names = known, set[str]()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"The space uses trial.{name}; a space asks by trial.suggest_categorical alone.")

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return a random choice."""
        offered, full = tuple(choices), str(name)
        require(offered, f"The parameter {full} has no choices; leave it out or offer some.")
        odd = [v for v in offered if not (v is None or isinstance(v, bool | int | float | str))]
        require(not odd, f"The parameter {full} offers {odd}; choices are numbers or words, see spaces.choices.choose.")
        require(len(set(offered)) == len(offered), f"The parameter {full} offers {offered}; offer each value once.")
        require(full not in self.names, f"The parameter {full} is asked twice for one network; name each differently.")
        before = self.known.setdefault(full, offered)
        always = (
            f"The parameter {full} offers {before} and then {offered}; use spaces.choices.choose, which names both."
        )
        require(before == offered, always)
        self.names.add(full)
        return super().suggest_categorical(name, offered)


def check_space(space: Any, image: Image) -> None:
    """Check a space for images of so many channels, (H, W) and classes."""
    check_written("space", space)
    generator, known, seen = np.random.default_rng(0), dict[str, tuple[Any, ...]](), set[NetworkConfig]()
    for _ in range(DRAWS):
        asked = Asked(generator, known)
        with working("space.suggest"):
            network = space.suggest(asked, *image)
            again = space.suggest(Draw(np.random.default_rng(1), asked.params), *image)
            canonical = network.canonical()
        require(network == again, f"{asked.params} gave {network} and then {again}; answers decide the network.")
        require(network == canonical, f"{network} is not canonical: return network.canonical(), which is {canonical}.")
        found = network.in_channels, network.size
        require(found == image[:2], f"{network} is for images of {found}, not {image[:2]}; use what suggest is given.")
        seen.add(network)
    with working("The plainest network, which others are measured beside,"):
        plainest = config_from_dict(SpaceNetworks(space, image).baseline() or {})
    bare = not hasattr(space, "names") and "none" in {network.placement() for network in seen}
    without = f"{plainest.describe()} passes for the plainest; name the value without RepMLP in choose(..., plain=...)."
    require(not bare or plainest.placement() == "none", without)
    if hasattr(space, "count"):
        whole = list(itertools.islice(outcomes(lambda trial: space.suggest(trial, *image)), ENUMERATED + 1))
        count, least = space.count(*image), len(seen.union(whole))
        right = count == least if len(whole) <= ENUMERATED else count >= least
        require(right, f"space.count says {count:,}, but {least:,} different networks were found.")


def check_data(config: Any, batch: int = 4) -> None:
    """Check a data set that has no fewer training images than two batches."""
    check_written("data", config)
    require(config.task in get_args(TaskName), f"task={config.task!r} must be one of {', '.join(get_args(TaskName))}.")
    known = [*arguments(type(config)), "name"]
    odd = sorted(set(getattr(config, "place", ())) - set(known))
    require(not odd, f"place names {odd}, which are no fields; known are {', '.join(known)}.")
    with working("data.load"):
        source, other = config.load("cpu"), config.load("cpu")
        about = source.channels, *source.size, source.classes, len(source)
        whole_numbers = all(type(n) is int and n > 0 for n in about)
        require(whole_numbers, f"C, H, W, classes and len are {about}; they must be integers above 0.")
        names = source.class_names
        require(
            len(names) in (0, source.classes), f"class_names are {names}, of {source.classes} classes; all or none."
        )
        mean, std = source.normalisation
        fitting = len(mean) == len(std) == source.channels and min(std) > 0
        require(fitting, f"normalisation is {mean}, {std}; give a mean and a deviation above 0 for each channel.")
        whole = epoch_of(source, batch)
        same, another, anew = epoch_of(source, batch), epoch_of(source, batch, seed=1), epoch_of(other, batch)
        halves = [epoch_of(source, batch, shard=(rank, 2)) for rank in range(2)]
    wanted = len(source) // batch
    require(len(whole) == wanted >= 2, f"An epoch has {len(whole)} batches of {batch}; {max(wanted, 2)} are due.")
    for images, targets in whole:
        check_batch(config, source, images, targets)
        require(len(images) == batch, f"A batch has {len(images)} images, not {batch}; leave an incomplete one out.")
    require(equal(whole, same), "The same seed gave another epoch; draw all that is random by the generator.")
    require(equal(whole, anew), "Loaded again, the set gave another epoch; splits depend on the configuration alone.")
    require(not equal(whole, another), "Another seed gave the same epoch; shuffle by the generator.")
    shards = [[(i[rank::2], t[rank::2]) for i, t in whole] for rank in range(2)]
    parted = all(equal(half, shard) for half, shard in zip(halves, shards, strict=True))
    require(parted, "Shards do not part a batch: shard (rank, n) has every n-th image of it, from rank on.")
    with working("source.held_out"):
        held_out, again = list(source.held_out()), list(other.held_out())
    require(held_out, "No validation images are held out; trials are scored on them.")
    require(equal(held_out, again), "The validation images differ from one time to the next; they are always the same.")
    parts = {"training": pixels(whole), "validation": pixels(held_out)}
    with contextlib.suppress(DataError):  # it has none
        parts["test"] = pixels(list(source.test()))
    pairs = itertools.combinations(parts.items(), 2)
    for (one, some), (two, others) in pairs if config.task != "recognition" else ():  # where galleries are of training
        shared, most = len(some & others), min(len(some), len(others)) / 10
        require(shared <= most, f"{shared} images are {one} and {two} images too; hold those of each part apart.")
    for images, targets in held_out:
        check_batch(config, source, images, targets, held_out=True)


def epoch_of(source: Source, batch: int, seed: int = 0, shard: tuple[int, int] = (0, 1)) -> Epoch:
    return list(source.batches(batch, torch.Generator().manual_seed(seed), shard))


def equal(one: Epoch, other: Epoch) -> bool:
    """Return whether batches are the same, bit by bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b) for some, others in zip(one, other, strict=True) for a, b in zip(some, others, strict=True)
    )


def pixels(batches: Epoch) -> set[bytes]:
    """Return what tells the images apart."""
    return {image.numpy().tobytes() for images, _ in batches for image in images}


def check_batch(config: Any, source: Source, images: Tensor, targets: Tensor, held_out: bool = False) -> None:
    """Check shapes, types and ranges."""
    shape = source.channels, *source.size
    right = images.dtype == torch.float32 and images.shape[1:] == shape
    require(right, f"Images are {images.dtype} {tuple(images.shape)}; they must be float32 (N, {shape}).")
    require(images.isfinite().all(), "Some pixels are not finite.")
    if held_out and config.task == "recognition":
        return  # with people and roles of its own, see search.data.face_folder
    maps = source.size if config.task == "segmentation" else ()
    right = targets.dtype == torch.int64 and targets.shape == (len(images), *maps)
    require(right, f"Targets are {targets.dtype} {tuple(targets.shape)}; they must be int64 {(len(images), *maps)}.")
    known = targets[targets != IGNORED] if maps else targets
    inside = ((known >= 0) & (known < source.classes)).all()
    require(inside, f"Targets are {known.unique().tolist()}; {source.classes} classes are counted from 0.")


def check_sampler(sampler: Any, study: Search) -> None:
    """Check a sampler, as `Search.sampler` takes it, on a study's space; nothing is trained, accuracies are made up.

    The study goes on once, with a new sampler, and among its trials are failed ones and, where networks differ in
    parameters, ones over a limit.
    """
    with working("The sampler"):
        data = study.data.load("cpu")
        networks = SpaceNetworks(study.space, (data.channels, data.size, data.classes), study.quantities[:0])
        drawn = (networks.suggest(Draw(np.random.default_rng(seed))) for seed in range(15))
        limits = {"max_params": float(np.quantile([network_costs(network)["params"] for network in drawn], 0.7))}
        alone = {"from_runs": (), "storage": None, "scheduler": {"name": "full"}, "limits": limits}
        study = Search.model_validate({**plain(study), **alone, "sampler": sampler})
        first, second = ([*asked(study, networks)] for _ in range(2))
    require(first == second, f"The same seed gave {first} and then {second}; draw from the seed that is given alone.")


def asked(study: Search, networks: SpaceNetworks) -> Iterator[dict[str, Any]]:
    """Yield the parameters of all trials of a study that is worked off as `check_sampler` says."""
    storage = InMemoryStorage()
    for trials in (STARTUP // 2, STARTUP + 6):
        engine = Engine(Journal(study.model_copy(update={"trials": trials}), storage), networks)
        while isinstance(job := engine.next(), Job):
            trial = engine.journal.trials[job.number]
            made_up = Measurement(1e9 / (1 + trial.costs["macs"]), 1, 1, 1, 8, "float32", "none", 1)
            report = Report(measured=dict.fromkeys(job.measure, made_up))
            while engine.report(job.number, report) == "continue":
                epoch, accuracy = len(trial.curve) + 1, 100 * int(trial.training_id, 16) / 16**16
                final = Final(accuracy) if epoch == study.training.epochs else None
                report = Report(epoch=EpochResult(epoch, accuracy, 1.0, 1.0), final=final)
                if job.number % 4 == 3:
                    report = Report(failure="made to fail")
    count = networks.space.count(*networks.image) if hasattr(networks.space, "count") else math.inf
    begun = list(engine.journal.trials.values())
    seen = len({trial.training_id for trial in begun})
    enough = not engine.exhausted or seen >= min(STARTUP, count / 3)
    require(enough, f"The sampler proposed {seen} of {count:,} networks, and then the same ones; draw some at random.")
    for trial in begun:
        network = networks.suggest(Draw(np.random.default_rng(0), trial.params))
        require(training_id(network) == trial.training_id, f"The space does not offer the proposal {trial.params}.")
        yield trial.params


def check_network(config: NetworkConfig) -> None:
    """Check the configuration of a network, which is built in float64: of small images, a few channels wide."""
    name = type(config).__name__
    with working(name):
        found = class_of(kind_of(config))
        require(found is type(config), f"{kind_of(config)} names another class than that of {config}.")
        canonical, deployed = config.canonical(), config.deployed()
        require(canonical.canonical() == canonical, f"{name}.canonical() changes what is canonical already.")
        require(deployed.canonical() == deployed, f"{name}.deployed() is {deployed}, which is not canonical.")
        require(deployed.deployed() == deployed, f"{name}.deployed() changes what is deployed already.")
        require(canonical.deployed() == deployed, f"{name}.deployed() differs for equal networks.")
        again = config_from_dict(json.loads(json.dumps(config_to_dict(config))))
        require(again == canonical, f"{name} is read as {again} once it is written as plain values.")
        copied = pickle.loads(pickle.dumps(config))
        same = copied == config and hash(copied) == hash(config) and training_id(copied) == training_id(again)
        require(same and deploy_id(again) == deploy_id(deployed), f"The ids of {name} differ for equal networks.")
        merged = config_from_dict(without_kernels(config_to_dict(config)))
        require(deploy_id(merged) == deploy_id(config), f"{name}.deployed() keeps kernels, which conversion merges.")
        for text in (config.describe(), config.placement()):
            require(text and "\n" not in text, f"describe and placement of {name} must be one line; one is {text!r}.")
        torch.manual_seed(0)
        trained = config.build().double().train()
        images = torch.randn(4, *input_shape(config), dtype=torch.float64)
        trained(images)  # which moves the statistics of BN
        converted, built = convert(trained), config.build(deploy=True).double().eval()
        with torch.inference_mode():
            outputs, others = trained.eval()(images), converted(images)
    shape, due = tuple(outputs.shape), (len(images), config.classes)
    require(shape[:2] == due, f"{name} gives {shape} for {len(images)} images; {due} is due, and pixels if any.")
    error = float((outputs - others).abs().max() / outputs.abs().max())
    require(error < TOLERANCE, f"Conversion changes the outputs of {name} by {error:.1e} of the largest.")
    one, other = ({key: value.shape for key, value in m.state_dict().items()} for m in (converted, built))
    require(one == other, f"{name}.build(deploy=True) has other weights than conversion leaves: {one} and {other}.")
    with working(f"Counting {name}"):
        params, macs = (network_costs(config)[key] for key in ("params", "macs"))
    there = sum(p.numel() for p in built.parameters())
    require(params == there and macs > 0, f"{name} counts {params} parameters and {macs} MACs, but has {there}.")


def without_kernels(values: Any) -> Any:
    """Return plain values of a network whose RepMLP blocks have no Local Perceptron, if that is merged into FC3."""
    if isinstance(values, list):
        return [without_kernels(value) for value in values]
    if not isinstance(values, dict):
        return values
    merged = values.get("kind") == "repmlp" and not values.get("fc3_conv")
    return {key: [] if merged and key == "kernels" else without_kernels(value) for key, value in values.items()}


def check_quantity(kind: type[Quantity], network: NetworkConfig) -> None:
    """Check a quantity of one's own on a network with something to convert."""
    with working(f"A study with the objective {kind.__name__}"):
        path, own = import_path(kind), kind()  # type: ignore[call-arg]
        study = Search(name="s", objectives=("accuracy", path), limits={own.limit: 1.0})
        require(study.quantities[1] == own, f"{path} gives another quantity than {own}; it takes no arguments.")
    require(own.name.isidentifier(), f"name={own.name!r} must be an identifier: it is a column and part of a key.")
    require(own.better in ("maximize", "minimize"), f"better={own.better!r} must be maximize or minimize.")
    if own.when == "counted":
        with working(f"{kind.__name__}.count"):
            value, again, deployed = (own.count(n) for n in (network, network, network.deployed()))
            require(math.isfinite(value) and value > 0, f"{own.name} is {value}; it must be finite and above 0.")
        require(value == again, f"{own.name} is {value} and then {again} of the same network.")
        require(value == deployed, f"{own.name} is {value}, but {deployed} of the network converted; count that one.")
