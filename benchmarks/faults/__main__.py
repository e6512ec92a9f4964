"""Claim: whatever is killed, filled, cut, stopped or started twice, nothing that is finished is lost or trained again.

Small seeded studies are run by the command and hurt at random moments; after each fault, what had ended must be there
as it was, and once a study has come to its end: no epoch is missing, no trial runs or has failed, the budget is exact,
trained weights give the recorded accuracy, and the front is that of the same study undisturbed.
`python -m benchmarks.faults --minutes 30` prints JSON: faults, violations, lost, retrained; exit code 1 if any.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.faults.hurting import fitting, hurt, undisturbed
from benchmarks.faults.judging import Verdict
from benchmarks.faults.worlds import POSTGRESQL, SHAPES, Backend, Storage, world
from benchmarks.timing import write_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of the moments and the order; drawn if not given")
    parser.add_argument("--storages", nargs="+", default=None, help="of journal, sqlite, postgresql, s3, small_disk")
    parser.add_argument("--keep", action="store_true", help="keep the folders of studies with violations")
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    chance, deadline = random.Random(seed), time.monotonic() + 60 * given.minutes
    storages: list[Storage] = ["journal", "sqlite", "s3"]
    storages += ["postgresql"] if POSTGRESQL else []
    storages += ["small_disk"] if os.geteuid() == 0 else []
    storages = given.storages or storages
    tally: dict[str, list[int]] = {}
    total, worlds = Verdict(), Counter[str]()
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ["REPMLP_LOCKS"] = str(root)
    calm = {shape: undisturbed(root, shape) for shape in SHAPES}
    while time.monotonic() < deadline:
        shape, storage = chance.choice([*SHAPES]), storages[sum(worlds.values()) % len(storages)]
        backend: Backend = "ray" if storage == "journal" and chance.random() < 0.4 else "local"
        folder = root / f"world-{sum(worlds.values())}"
        with world(folder, shape, storage, backend, random.Random(chance.random())) as there:
            verdict = hurt(calm[shape], there, fitting(storage, backend), tally)
        worlds[f"{storage} {backend}"] += 1
        total.violations += verdict.violations
        total.lost += verdict.lost
        total.retrained += verdict.retrained
        faults = sum(count for name, (count, _) in tally.items())
        print(f"{faults:4} faults, {shape} {storage} {backend}: {verdict.violations or 'as promised'}", flush=True)
        if not (given.keep and verdict.violations):
            shutil.rmtree(folder, ignore_errors=True)
    if not (given.keep and total.violations):
        shutil.rmtree(root, ignore_errors=True)
    rows = [{"fault": name, "times": times, "violations": wrong} for name, (times, wrong) in sorted(tally.items())]
    write_csv("faults", rows, f"seed{seed}", "float32")
    faults = sum(times for times, _ in tally.values())
    summary = {"faults": faults, "violations": len(total.violations), "lost": total.lost, "retrained": total.retrained}
    print(json.dumps({**summary, "seed": seed, "studies": dict(worlds)}))
    raise SystemExit(1 if total.violations else 0)


if __name__ == "__main__":
    main()
