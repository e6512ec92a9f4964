"""Study files with a mistake or two in them, and whether the command tells them in a sentence.

Each case is decided by its seed and number alone. `python -m tests.faults.mutations --count 2000 --seed 0` checks as
many and prints JSON; `--only 17` shows what case 17 is, and what the command says of it.

A case is checked as `run_search.py STUDY --dry-run` would, in a fork of a process that has imported everything. What
cannot work has to end in one sentence within `SENTENCE` seconds of a processor; a study that is right may take `STUDY`
seconds for its candidates and their counts. Neither may end in a traceback, or take over `MEMORY` beyond the imports.
"""

import argparse
import contextlib
import copy
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
import typer
import yaml

import run_search
from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.study import Comparison, Search
from repmlp.paper import TABLES
from search import data as data_sets
from search.measuring.costs import network_costs, training_costs
from spaces.catalogue import SPACES
from tests.conftest import ROOT
from tests.sets import rows_of_faces, write_cityscapes, write_classes, write_faces, write_segments

SENTENCE, STUDY = 2.0, 60.0
"""Seconds of a processor that a mistake, and a study that is right, may take."""
MEMORY = 2**30
"""Bytes that a case may take beyond what the imports do."""
HALT = 600
"""Seconds after which a case that only waits is ended."""
README = """
space:
  name: ablation
  base: {table: 1, row: Pure MLP}
  variants:
    w/o Local: without_local
    FC3 as conv9: {fc3_as_conv: 9}
    no 7x7 in stage 1: {stages.0.block.kernels: [1, 3, 5]}
  sweeps: {groups: [1, 2, 4, 8], kernels_cumulative: [1, 3, 5, 7]}
seeds: 5
data: {name: image_folder, size: 32}
"""
"""Its example of an ablation, with data."""
LIGHT = ["default", "default", "README", "cifar_mlp", "ablation_cifar_short", "camvid", "faces_lfw", "imagenette"]
"""Studies of small networks, which most cases are of."""
ROOTS = {
    "image_folder": "classes",
    "imagenet": "classes",
    "face_folder": "faces",
    "segmentation_folder": "segments",
    "cityscapes": "cityscapes",
}


@dataclass(frozen=True)
class Case:
    """A study file and overrides, and what was done to them."""

    study: str
    what: list[str]
    text: bytes
    overrides: list[str]


@dataclass(frozen=True)
class Outcome:
    """How the command ended on a case: `study` or `sentence` if it may end so, else what is wrong."""

    kind: str
    seconds: float
    """Of a processor."""
    megabytes: float
    """Beyond what the imports take."""
    said: str
    """Its last words."""


def originals(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all studies by name, as plain values, with tiny data written to `folder`; batches are as small."""
    write_classes(folder / "classes", ("train", "val"))
    write_faces(folder / "faces", rows_of_faces(train=20))
    write_segments(folder / "segments")
    write_cityscapes(folder / "cityscapes")
    found = {}
    for name, text in [(p.stem, p.read_text()) for p in sorted((ROOT / "studies").glob("*.yaml"))] + [
        ("README", README)
    ]:
        values = yaml.safe_load(text)
        data = values["data"]
        if data["name"].startswith("cifar"):
            data |= {"name": "image_folder", "size": data.get("size", 32)}
        if data["name"] == "cityscapes":
            data["size"] = 233  # counted in a tenth of the time of 713
        if data["name"] == "face_folder":
            data["validation"] = 0.2  # of so few pictures
        if data["name"] in ROOTS:
            data["root"] = str(folder / ROOTS[data["name"]])
            values.setdefault("training", {})["batch"] = 4
        found[name] = values
    return found


# What is put in the place of a value, or into a mapping or a text.

WORDS = [*SPACES, *data_sets.names(), "halving", "full", "surrogate", "gp", "paper", "bottleneck", "small", "ablation"]
ODD: list[Any] = [
    *(
        None,
        [],
        {},
        "",
        "x",
        True,
        False,
        [None],
        [[]],
        {"a": {"b": 1}},
        [1, 2, 3],
        [3, 2.5, "x"],
        {1: 2},
        {"name": "x"},
    ),
    *(-1, 0, 1, 2, 3, 7, 8, 34, 64, 0.5, 1.5, -0.5, 1e-308, 1e308, float("inf"), float("-inf"), float("nan")),
    *(
        1000,
        10**4,
        10**5,
        10**6,
        10**9,
        10**18,
        10**400,
        -(10**9),
        "1e9",
        "inf",
        "0x10",
        "1_000",
        "12:30:45",
        "2020-01-01",
    ),
    *(
        "x" * 10_000,
        "no.such:Thing",
        "os:system",
        "os.path:join",
        ":",
        "a:",
        "../../etc/passwd",
        "a b",
        "%s {0}",
        "[/b]",
    ),
    *("${name}", "${training.batch}", "${space}", "${oc.env:HOME}", "${no.such}", "???", "${", "\x1b[31m", "é\u202e"),
]
KNOWN = [
    *Search.model_fields,
    *Comparison.model_fields,
    *(f"training.{key}" for key in Recipe.model_fields),
    *(f"measure.{key}" for key in Point.model_fields),
    *(f"resources.{key}" for key in Resources.model_fields),
    *(f"data.{key}" for name in data_sets.names() for key in data_sets.named(name).model_fields if key != "download"),
    *(f"space.{key}" for kind in SPACES.values() for key in kind.__dataclass_fields__ if key != "name"),
    *(f"limits.{key}" for key in ("max_params", "max_macs", "min_throughput", "max_latency", "max_accuracy")),
    *("halving.first_rung", "halving.factor", "scheduler.name", "sampler.name", "halving"),
]
"""Keys of a study; all but the one that fetches a data set."""
GARBAGE = [
    *(
        ": : [",
        "\t",
        "}",
        "]",
        "%",
        "@",
        "- ",
        "&a [*a]",
        "*a",
        "<<: *x",
        "---\n",
        "...\n",
        "? ",
        "|",
        "'",
        '"',
        "#",
        ": ",
    ),
    *(
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!binary x",
        "!!set {a}",
        "!x y",
        "!!int x",
    ),
    *("\x00", "\x07", "\x85", "\u2028", "\ufeff", "\ud7ff", "a: 1\na: 2\n", "seed: 1\nseed: 2\n", "? [1, 2]\n: 3\n"),
]
OVERRIDES = [
    *("=", "==", "a", "a=b=c", ".=1", "training.=3", "training..epochs=1", "training.epochs", "training.epochs="),
    *(
        "space.blocks[0]=3",
        "space.blocks=[1,2",
        "data={",
        "name=../x",
        "name=",
        "a.b.c=1",
        "training=3",
        "space=",
        "data",
    ),
    *(
        "trials=1e9",
        "limits.max_params=1",
        "limits.max_macs=1",
        "limits.max_params=1000",
        "limits=1",
        "seed=-1",
        "seed=1e3",
    ),
    *(
        "x=${x}",
        "seed=${seed}",
        "training.batch=${trials}",
        "+a=1",
        "~data",
        "data.size=1000",
        "data.size=1000000",
        "trials=",
    ),
    *(
        "training.batch=999999",
        "training.epochs=1000000000",
        "seeds=2",
        "seeds=0",
        "test=false",
        "space.name=fixed",
        "data=[]",
    ),
    *(
        "space={name: cifar_mlp}",
        "space.widths=[1000]",
        "space.channels=[512]",
        "resources.gpus=1",
        "data.name=mnist5k",
        "=",
    ),
]


def places(values: Any) -> list[tuple[Any, Any]]:
    """Return all places of nested values, as the container and its key or index."""
    keys = list(values) if isinstance(values, dict) else list(range(len(values))) if isinstance(values, list) else []
    return [place for key in keys for place in [(values, key), *places(values[key])]]


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a key with dots, making mappings on its way."""
    *way, last = key.split(".")
    for name in way:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[last] = value


def odd(random: Random) -> Any:
    """Return a value that few keys take."""
    if random.random() < 0.15:
        return random.choice(WORDS)
    if random.random() < 0.05:
        deep: Any = 1
        for _ in range(random.choice([3, 20, 100])):
            deep = [deep] if random.random() < 0.5 else {"a": deep}
        return deep
    return copy.deepcopy(random.choice(ODD))


Change = Callable[[dict[str, Any], Random, dict[str, dict[str, Any]]], str]


def replaced(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Put an odd value in the place of one that is there."""
    container, key = random.choice(places(values))
    container[key] = odd(random)
    return f"{key} = {container[key]!r:.80}"


def scaled(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Make a number larger, smaller or negative."""
    numbers = [(c, k) for c, k in places(values) if type(c[k]) in (int, float)]
    if not numbers:
        return "nothing"
    container, key = random.choice(numbers)
    container[key] *= random.choice([-1, 0, 0.5, 2, 2, 3, 4, 4, 8, 10, 16, 100, 1000, 10**6, 10**9])
    return f"{key} = {container[key]!r}"


def given(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Give a key that a study knows."""
    key = random.choice(KNOWN)
    number = random.choice([1, 2, 3, 4, 7, 16, 100, 0.5, [1], [4, 8], [[4], [8]], True, "x"])
    value = odd(random) if random.random() < 0.6 else number
    put(values, key, value)
    return f"{key} = {value!r:.80}"


def unknown(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Give a key that nothing knows, or misspell one."""
    dicts = [values, *(c[k] for c, k in places(values) if isinstance(c[k], dict))]
    target = random.choice(dicts)
    key: Any = random.choice([*target, "x"] if target else ["x"])
    other = random.choice([f"{key}s", str(key)[:-1], f"{key}.{key}", 7, True, "", "kind", "name", "\x1b"])
    target[other] = target.get(key, 1) if random.random() < 0.5 else target.pop(key, 1)
    return f"{other!r} beside or for {key!r}"


def removed(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Take a value away."""
    container, key = random.choice(places(values))
    del container[key]
    return f"no {key}"


def swapped(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Swap two values."""
    (a, i), (b, j) = random.choice(places(values)), random.choice(places(values))
    a[i], b[j] = copy.deepcopy(b[j]), copy.deepcopy(a[i])
    return f"{i} and {j} swapped"


def borrowed(values: dict[str, Any], random: Random, studies: dict[str, dict[str, Any]]) -> str:
    """Take a part, or a value in it, from another study."""
    name = random.choice(list(studies))
    other = copy.deepcopy(studies[name])
    key = random.choice(list(other))
    if random.random() < 0.5 or not isinstance(other[key], dict) or not isinstance(values.get(key), dict):
        values[key] = other[key]
        return f"{key} of {name}"
    part = random.choice(list(other[key]))
    values[key][part] = other[key][part]
    return f"{key}.{part} of {name}"


CHANGES: list[Change] = [*[replaced] * 3, *[scaled] * 5, *[given] * 3, unknown, removed, removed, swapped, borrowed]


def spoiled(text: str, random: Random) -> tuple[bytes, str]:
    """Damage the text of a study file."""
    lines = text.splitlines(keepends=True)
    at = random.randrange(len(lines))
    kind = random.randrange(7)
    if kind == 0:
        garbage, where = random.choice(GARBAGE), random.randrange(len(text) + 1)
        return (text[:where] + garbage + text[where:]).encode(errors="surrogatepass"), f"{garbage!r} at {where}"
    if kind == 1:
        depth, mark = random.choice([100, 1000, 3000, 30_000]), random.choice(["[", "{a: ", "- "])
        key = random.choice(["x", "space", "data", "trials", "limits"])
        end = {"[": "]", "{a: ": "}", "- ": ""}[mark] * depth
        return f"{text}{key}:\n  {mark * depth}1{end}\n".encode(), f"{key} nested {depth} deep by {mark}"
    if kind == 2:
        lines.insert(at, lines[random.randrange(len(lines))])
        return "".join(lines).encode(), f"a line twice, at {at}"
    if kind == 3:
        lines[at] = random.choice([" ", "  ", "\t"]) + lines[at]
        return "".join(lines).encode(), f"line {at} indented"
    if kind == 4:
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
        return (bomb + text).encode(), "a bomb of aliases"
    if kind == 5:
        coded = random.choice(
            [text.encode("utf-16"), b"\xff\xfe\xfd" + text.encode(), b"", b"# none\n", b"7\n", b"[1, 2]"]
        )
        return coded, "another encoding or kind of file"
    return text[: random.randrange(len(text))].encode(), "cut off"


def case(number: int, seed: int, studies: dict[str, dict[str, Any]]) -> Case:
    """Return the case of that number."""
    random = Random(f"{seed} {number}")
    light = [name for name in LIGHT if name in studies]
    name = random.choice(light) if light and random.random() < 0.75 else random.choice(list(studies))
    values = copy.deepcopy(studies[name])
    changes = random.choices(CHANGES, k=random.choice([1, 1, 1, 2]))
    what = [change(values, random, studies) for change in changes if places(values)]
    text, overrides = yaml.safe_dump(values, sort_keys=False), []
    spoilt = text.encode()
    if random.random() < 0.15:
        text = yaml.safe_dump(studies[name], sort_keys=False)
        spoilt, how = spoiled(text, random)
        what = [how]
    elif random.random() < 0.15:
        overrides = random.choices(OVERRIDES, k=random.choice([1, 2]))
    return Case(name, what, spoilt, overrides)


def checked(one: Case, path: Path, idle: int) -> Outcome:
    """Check a case in a fork, and return how it ended; `idle` are the bytes that a fork has which does nothing."""
    path.write_bytes(one.text)
    words = path.with_suffix(".said")
    child = os.fork()
    if child == 0:
        end = 1
        try:
            end = say(path, one.overrides, words)
        finally:
            os._exit(end)
    _, status, used = os.wait4(child, 0)
    seconds, grown = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 - idle
    said = words.read_text(errors="replace").strip()
    code = os.waitstatus_to_exitcode(status)
    ends = {0: ("study", STUDY), 2: ("sentence", SENTENCE)}
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        kind = "slow"
    elif code not in ends or (code == 2 and not said.splitlines()[-1].startswith("error: ")):
        kind = "traceback"
    elif grown > MEMORY:
        kind = "large"
    else:
        kind = ends[code][0] if seconds <= ends[code][1] else "slow"
    return Outcome(kind, round(seconds, 2), round(grown / 2**20), said if kind == "traceback" else said[-300:])


def say(path: Path, overrides: list[str], words: Path) -> int:
    """Run the command in this process, with what it says in a file; returns its exit code, or 70 after a traceback."""
    signal.alarm(HALT)
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + STUDY) + 2, int(used + STUDY) + 12))
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + 4 * MEMORY,) * 2)
    with words.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        run_search.console.file = file
        try:
            run_search.main(path, overrides, dry_run=True)
        except typer.Exit as end:
            return end.exit_code
        except BaseException:
            traceback.print_exc()
            return 70
    return 0


def idle_fork() -> int:
    """Return the bytes of memory that a fork of this process holds which does nothing."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.wait4(child, 0)[2].ru_maxrss * 1024


def address_space() -> int:
    """Return the bytes of addresses that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def warm() -> Iterator[None]:
    """Import what is imported late, so that no case pays for it, and keep to one thread: others end in a fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network_costs(TABLES[3]["c3 c4"])
    training_costs(TABLES[1]["Pure MLP"])
    yield
    torch.set_num_threads(threads)


def outcomes(
    numbers: Iterable[int], seed: int, studies: dict[str, dict[str, Any]] | None = None
) -> Iterator[tuple[int, Case, Outcome]]:
    """Yield number, case and outcome of each; `studies` are those to damage, by name, instead of all that there are."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder, contextlib.chdir(folder), warm():
        studies = originals(Path("sets")) if studies is None else studies
        idle = idle_fork()
        for number in numbers:
            one = case(number, seed, studies)
            yield number, one, checked(one, Path("study.yaml"), idle)


def report(numbers: Sequence[int], seed: int, studies: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return how many cases ended how, and what is wrong with those that did not end as they should."""
    ends: Counter[str] = Counter()
    cases, slowest, largest = [], 0.0, 0.0
    for number, one, outcome in outcomes(numbers, seed, studies):
        ends[outcome.kind] += 1
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
        if outcome.kind not in ("study", "sentence"):
            what = {"number": number, "study": one.study, "what": one.what, "overrides": one.overrides}
            cases.append(what | asdict(outcome) | {"said": outcome.said.splitlines()[-1:]})
            print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
    return {
        "count": len(numbers),
        "seed": seed,
        "studies": ends["study"],
        "sentences": ends["sentence"],
        "violations": len(cases),
        "tracebacks": ends["traceback"],
        "slow": ends["slow"],
        "large": ends["large"],
        "slowest_seconds": slowest,
        "largest_megabytes": largest,
        "cases": cases,
    }


def main() -> None:
    """Check as many cases as are asked for, and print JSON; or show one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="show the case of this number alone")
    asked = parser.parse_args()
    if asked.only is None:
        print(json.dumps(report(range(asked.start, asked.start + asked.count), asked.seed), indent=1))
        return
    for _, one, outcome in outcomes([asked.only], asked.seed):
        print(one.text.decode(errors="replace"), one.overrides, one.what, outcome, sep="\n")
        print(outcome.said)


if __name__ == "__main__":
    main()
