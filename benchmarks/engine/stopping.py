"""Claim: a search that trains with two workers ends within 3 s of Ctrl-C, SIGTERM or SIGHUP, and leaves nothing behind.

Nothing: no worker, no half-written file, no scratch folder, and no line of output beyond a few.
`python -m benchmarks.engine.stopping [--backend local ray] [--tries 10]`.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
LONG = "training.epochs=90", "halving=null", "trials=40", "resources.concurrent=2"


def below(parent: int) -> list[int]:
    """Return all processes that descend from one."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(above) for pid, above in map(str.split, listed.splitlines())}
    found, new = list[int](), [parent]
    while new:
        found += new
        new = [pid for pid, above in parents.items() if above in new]
    return found[1:]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be asked for its exit code does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def stopped(backend: str, number: signal.Signals) -> dict[str, float | int]:
    """Start the default study, stop it once it has trained four epochs, and return what that took and left."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        command = [sys.executable, "run_search.py", "studies/default.yaml", f"runs={folder}", *LONG]
        process = subprocess.Popen(
            [*command, f"resources.backend={backend}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary), "RAY_TMPDIR": folder},
        )
        journal = Path(folder) / "default" / "journal.log"
        while not (journal.exists() and journal.read_text().count('"epoch":') >= 4):
            time.sleep(0.1)
            assert process.poll() is None, process.communicate()
        workers = below(process.pid)
        start = time.perf_counter()
        process.send_signal(number)
        output, errors = process.communicate()
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "exit_code": process.returncode,
            "processes": sum(map(alive, workers)),
            "files": len([*Path(folder).rglob("*.part"), *temporary.glob("repmlp*")]),
            "lines": len((output + errors).splitlines()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", nargs="+", default=["local", "ray"])
    parser.add_argument("--tries", type=int, default=10)
    given = parser.parse_args()
    figures: dict[str, float] = {}
    for backend in given.backend:
        tries = []
        for i in range(given.tries):
            number = SIGNALS[i % len(SIGNALS)]
            found = stopped(backend, number)
            print(f"{backend} {number.name}: {found}", flush=True)
            assert found["exit_code"] == 128 + number
            tries.append(found)
        figures[f"{backend}_median"] = round(statistics.median(t["seconds"] for t in tries), 2)
        figures[f"{backend}_max"] = round(max(t["seconds"] for t in tries), 2)
        for left in ("processes", "files", "lines"):
            figures[f"{backend}_{left}"] = max(t[left] for t in tries)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
