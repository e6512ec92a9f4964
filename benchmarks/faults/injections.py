"""Faults by name: each hurts a world whose driver works, and leaves it without a driver, to be started again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.worlds import World

Fault = Callable[[World], list[str]]
"""Hurts a world; returns what went wrong beyond what the fault is."""
ANY = ("journal", "sqlite", "postgresql", "s3", "small_disk")


def driver_killed(world: World) -> list[str]:
    """Kill -9 of the driver."""
    world.kill()
    return []


def all_killed(world: World) -> list[str]:
    """Kill -9 of the driver and its workers at once, as when a machine is switched off."""
    for pid in world.trained_by:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    world.kill()
    return []


def signalled(world: World) -> list[str]:
    """Ctrl-C, SIGTERM or SIGHUP."""
    assert world.driver is not None
    number = world.chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    world.driver.send_signal(number)
    start = time.monotonic()
    code = world.end(30)
    wrong = [] if code in (128 + number, 0) else [f"exit code {code} after {number.name}: {world.log[-300:]}"]
    if "Traceback" in world.log:
        wrong.append(f"traceback after {number.name}: {world.log[-300:]}")
    if time.monotonic() - start > 10:
        wrong.append(f"{number.name} took {time.monotonic() - start:.1f} s")
    return wrong


def worker_killed(world: World) -> list[str]:
    """Kill -9 of a worker that trains or waits; the driver goes on, for a while at least."""
    workers = [pid for pid in world.trained_by if trains(pid)]
    if not workers:
        return driver_killed(world)
    with suppress(ProcessLookupError):
        os.kill(world.chance.choice(workers), signal.SIGKILL)
    time.sleep(world.chance.uniform(0, 5))
    world.kill()
    return []


def trains(pid: int) -> bool:
    """Whether a process is a worker."""
    with suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"search.backends.worker" in line or line.startswith(b"ray::")
    return False


def second_driver(world: World) -> list[str]:
    """The same command once more, beside the first."""
    assert world.driver is not None
    second = world.start("second.log")
    try:
        code = second.wait(60)
    except subprocess.TimeoutExpired:
        second.kill()
        second.wait()
        return ["the second driver was let in"]
    text = (world.folder / "second.log").read_text(errors="replace")
    let_in = not (code == 2 and "is being run by" in text) and world.driver.poll() is None
    world.kill()
    return [f"the second driver ended with {code}: {text[-300:]}"] if let_in else []


def driver_frozen(world: World) -> list[str]:
    """The driver sleeps while another one takes its study over, and wakes up beside it."""
    assert world.driver is not None
    os.kill(world.driver.pid, signal.SIGSTOP)
    sleeper, world.driver = world.driver, world.start()
    while world.driver.poll() is None and "Training in" not in world.log and "is being run by" not in world.log:
        time.sleep(0.05)
    time.sleep(world.chance.uniform(0, 1))
    os.kill(sleeper.pid, signal.SIGCONT)
    try:
        sleeper.wait(60)
    except subprocess.TimeoutExpired:
        sleeper.kill()
        sleeper.wait()
        return (
            [] if world.storage in ("journal", "small_disk") else ["the driver that slept went on beside the new one"]
        )
    finally:
        world.kill()
    return []


def journal_torn(world: World) -> list[str]:
    """The driver is killed in the middle of a line of the journal."""
    world.kill()
    path = world.local / "journal.log"
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    if last < len(content):
        with path.open("rb+") as file:
            file.truncate(world.chance.randint(last, len(content) - 1))
    return []


def checkpoint_damaged(world: World) -> list[str]:
    """The driver is killed, and a checkpoint is cut short or another trial's."""
    all_killed(world)
    kept = sorted((world.local / "checkpoints").glob("*.pt"))
    if kept:
        hurt = world.chance.choice(kept)
        other = world.chance.choice(kept).read_bytes()
        hurt.write_bytes(world.chance.choice([hurt.read_bytes()[: world.chance.randint(0, 4000)], other]))
    return []


def disk_full(world: World) -> list[str]:
    """No room is left on the run folder's disk, for a while."""
    filling = world.folder / "runs" / "filling"
    with suppress(OSError), filling.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    code = world.end(60)
    filling.unlink()
    return [] if code in (0, 75) and "Traceback" not in world.log else [f"exit code {code}: {world.log[-300:]}"]


def database_stopped(world: World) -> list[str]:
    """PostgreSQL crashes, and comes back once the driver has given up."""
    world.server.stop()
    code = world.end(60)
    world.server.start()
    return [] if code in (0, 75) and "Traceback" not in world.log else [f"exit code {code}: {world.log[-300:]}"]


def server_stalled(world: World) -> list[str]:
    """The server answers nothing for some seconds."""
    stalled = [world.server.pid] if world.storage == "s3" else []
    for pid in stalled:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(world.chance.uniform(0, 4))
    for pid in stalled:
        os.kill(pid, signal.SIGCONT)
    time.sleep(world.chance.uniform(0, 2))
    world.kill()
    return []


def raylet_killed(world: World) -> list[str]:
    """The raylet, and so the node that the workers are on, is gone; as it starts, Ray itself ends its driver with 1."""
    for pid in world.trained_by:
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet":
                os.kill(pid, signal.SIGKILL)
    code = world.end(90)
    return [] if code in (0, 1, 75) and "Traceback" not in world.log else [f"exit code {code}: {world.log[-300:]}"]


FAULTS: dict[str, tuple[Fault, tuple[str, ...], tuple[str, ...], float]] = {
    "driver killed": (driver_killed, ANY, ("local", "ray"), 2),
    "driver and workers killed": (all_killed, ANY, ("local", "ray"), 2),
    "Ctrl-C, SIGTERM or SIGHUP": (signalled, ANY, ("local", "ray"), 2),
    "worker killed": (worker_killed, ANY, ("local", "ray"), 2),
    "two drivers": (second_driver, ANY, ("local",), 1),
    "driver asleep, taken over": (driver_frozen, ("sqlite", "postgresql", "s3"), ("local",), 0.5),
    "journal torn": (journal_torn, ("journal", "small_disk"), ("local",), 2),
    "checkpoint damaged": (checkpoint_damaged, ("journal", "sqlite", "small_disk"), ("local",), 1),
    "disk full": (disk_full, ("small_disk",), ("local",), 6),
    "database stopped": (database_stopped, ("postgresql",), ("local",), 3),
    "object storage stalled": (server_stalled, ("s3",), ("local",), 2),
    "raylet killed": (raylet_killed, ("journal",), ("ray",), 3),
}
"""By name: the fault, the storages and backends that it can befall, and its weight."""
