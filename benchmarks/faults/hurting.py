"""A study that is hurt, again and again, until it is done."""

import random
from collections.abc import Mapping
from pathlib import Path

from benchmarks.faults.injections import FAULTS
from benchmarks.faults.judging import Verdict, ended, finished, kept
from benchmarks.faults.worlds import Backend, Shape, Storage, World, world
from record.run import Run

MOST = 10
"""Faults that befall one study."""


def undisturbed(folder: Path, shape: Shape) -> Run:
    """Return a study that nothing befalls, one trial after the other."""
    with world(folder / f"undisturbed-{shape}", shape, "journal", "local", random.Random(0)) as calm:
        calm.environment["REPMLP_LOCKS"] = str(folder)
        calm.driver = calm.start()
        assert calm.end(300) == 0, calm.log
        run = calm.read()
        assert run is not None
        return run


def fitting(storage: Storage, backend: Backend) -> dict[str, float]:
    """Return the faults that can befall a world, and their weights."""
    return {name: f[3] for name, f in FAULTS.items() if storage in f[1] and backend in f[2]}


def hurt(calm: Run, there: World, weights: Mapping[str, float], tally: dict[str, list[int]]) -> Verdict:
    """Let faults befall a study until it is done; return what was wrong.

    Args:
        calm: the same study, undisturbed.
        there: the study.
        weights: of the faults.
        tally: of each fault how often it befell and the violations, added to.
    """
    whole, before = Verdict(), ended(there.read())

    def found(name: str, wrong: list[str], verdict: Verdict) -> None:
        tally.setdefault(name, [0, 0])[1] += len(wrong) + len(verdict.violations)
        whole.violations += [f"{name}: {text}" for text in [*wrong, *verdict.violations]]
        whole.lost += verdict.lost
        whole.retrained += verdict.retrained

    for _ in range(MOST):
        if not there.begin():
            break
        name = there.chance.choices([*weights], [*weights.values()])[0]
        tally.setdefault(name, [0, 0])[0] += 1
        wrong = FAULTS[name][0](there)
        if left := there.orphans():
            wrong.append(f"outlived the driver: {left}")
        now = there.read()
        found(name, wrong, kept(before, now))
        before = ended(now) or before
    if there.driver is None or there.driver.poll() is not None:
        there.driver = there.start()
    code = there.end(300)
    last = there.read()
    wrong = [] if code == 0 and last else [f"exit code {code} at the end: {there.log[-500:]}"]
    found("at the end", [*wrong, *(finished(there, last, calm) if last and not wrong else [])], kept(before, last))
    return whole
