"""The journal of a study: every trial, in Optuna's storage, which is the only source of truth."""

import contextlib
import os
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError

from record.stored import upgraded
from search.candidate import Final
from search.measuring.throughput import Throughput
from search.networks import Description
from search.study import DIRECTIONS, Study, StudyError
from search.training.trainer import EpochResult

Outcome = Literal["running", "paused", "complete", "stopped", "failed", "infeasible", "duplicate"]
"""The first two are RUNNING in Optuna's storage: a paused trial may still go on."""


@dataclass
class Entry:
    """One trial as the journal has it."""

    trial: optuna.Trial
    config: dict[str, Any]
    """The canonical network, as plain values."""
    training_id: str
    deploy_id: str
    costs: dict[str, int]
    """`params` and `macs` of the converted network."""
    seed: int
    granted: int = 0
    """Epochs that it may train for until it is promoted."""
    outcome: Outcome = "running"
    reason: str = ""
    twin: int | None = None
    """Number of the trial of the same network, if that one answers for this."""
    retried: bool = False
    """Whether it ran out of memory once."""
    note: str = ""
    """What did not go as the study has it, in a sentence."""
    origin: str | None = None
    """The trial of an earlier run whose results these are."""
    throughput: Throughput | None = None
    confirmed: Throughput | None = None
    """Of a member of the final front, what the second measurement gave."""
    curve: list[EpochResult] = field(default_factory=list)
    final: Final | None = None

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def training(self) -> tuple[str, int]:
        """What it trains: network and seed."""
        return self.training_id, self.seed

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.outcome in ("running", "paused")

    def known_costs(self) -> dict[str, float]:
        """Return the costs that need no training: params, macs, and throughput and latency once measured."""
        latest = self.confirmed or self.throughput
        if latest is None:
            return dict(self.costs)
        return {**self.costs, "throughput": latest.median, "latency": latest.latency}


class Journal:
    """Writes trials as they go, and reads them back to continue.

    Args:
        study: whose trials it holds.
        storage: where; None takes the study's own.

    Raises:
        StudyError: if the storage holds another study under this name.
    """

    def __init__(self, study: Study, storage: BaseStorage | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.objectives = study.objectives
        storage = optuna.storages.get_storage(open_storage(study) if storage is None else storage)
        known = study.name in {s.study_name for s in storage.get_all_studies()}
        directions = [DIRECTIONS[o] for o in study.objectives]
        self.optuna = (
            optuna.load_study(study_name=study.name, storage=storage)
            if known
            else optuna.create_study(study_name=study.name, storage=storage, directions=directions)
        )
        self.study = self.claim(study)
        """The study as this run has it: with the precision that was settled when it began."""
        if not known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.optuna.set_metric_names(list(study.objectives))  # what optuna-dashboard calls them
        self.entries: dict[int, Entry] = {}
        self.first: dict[tuple[str, int], Entry] = {}
        """Training id and seed to the entry that answers for them."""
        self.throughputs: dict[str, Throughput] = {}
        """Deploy id to what was measured."""
        for trial in self.optuna.get_trials(deepcopy=False):
            self.adopt(trial)

    def claim(self, study: Study) -> Study:
        """Write the study's identity on first use, and compare it later; what is new since then was as by default.

        Returns:
            The study, with the precision that this run has; one that leaves it to the processor takes the recorded.
        """
        known = self.optuna.user_attrs.get("study")
        if known is None:
            study = study.settled()
            self.optuna.set_user_attr("study", study.identity())
            self.optuna.set_user_attr("objectives", list(study.objectives))
            return study
        known = upgraded(known)
        with contextlib.suppress(ValidationError):
            known = Study.model_validate(known).identity()
        study = study.settled(known["training"]["precision"])
        identity = study.identity()
        if known != identity:
            changed = ", ".join(differences(known, identity))
            raise StudyError(
                f"{study.folder} belongs to another study: {changed}. Name this one anew with name=NEW, or "
                "take the changes back to continue."
            )
        return study

    def opened(self, reference: dict[str, float], environment: dict[str, Any]) -> None:
        """Note the hypervolume's reference point, unless one is fixed already, and where the study now runs."""
        known = self.optuna.user_attrs
        if "reference" not in known:
            self.optuna.set_user_attr("reference", reference)
        self.optuna.set_user_attr("environments", [*known.get("environments", []), environment])

    def adopt(self, trial: optuna.trial.FrozenTrial) -> None:
        """Read one trial back; one that was cut off before it was described ends as failed."""
        if trial.state is TrialState.WAITING:
            return
        entry = entry_of(self.optuna, trial)
        if entry is None:
            if not trial.state.is_finished():
                optuna.Trial(self.optuna, trial._trial_id).set_user_attr(
                    "reason", "interrupted before its network was chosen"
                )
                self.optuna.tell(trial.number, state=TrialState.FAIL)
            return
        self.keep(entry)
        ended: Outcome | None = "complete" if entry.final and entry.twin is None else None
        recorded: Outcome | None = trial.user_attrs.get("outcome") or ended
        if recorded and not trial.state.is_finished():  # cut off between its record and Optuna's
            self.end(entry, recorded, entry.reason)

    def add(self, trial: optuna.Trial, description: Description, seed: int) -> Entry:
        """Describe a new trial."""
        network = description
        entry = Entry(trial, network.config, network.training_id, network.deploy_id, network.costs, seed)
        for name in ("training_id", "deploy_id", "costs", "seed", "config"):
            trial.set_user_attr(name, getattr(entry, name))
        self.keep(entry)
        return entry

    def keep(self, entry: Entry) -> None:
        """Take an entry up, and remember the first one that trains its network."""
        self.entries[entry.number] = entry
        if entry.twin is None:
            self.first.setdefault(entry.training, entry)
        if entry.throughput is not None:
            self.throughputs.setdefault(entry.deploy_id, entry.throughput)

    def grant(self, entry: Entry, epochs: int) -> None:
        """Let a trial train until it has `epochs`."""
        entry.granted, entry.outcome = epochs, "running"
        entry.trial.set_user_attr("granted", epochs)

    def retry(self, entry: Entry) -> None:
        """Note that a trial ran out of memory, and may try once more."""
        entry.retried = True
        entry.trial.set_user_attr("retried", True)

    def remark(self, entry: Entry, note: str) -> None:
        """Note what does not go as the study has it."""
        entry.note = note
        entry.trial.set_user_attr("note", note)

    def constrain(self, entry: Entry, excess: dict[str, float]) -> None:
        """Tell the sampler how far each limit is exceeded; at most 0 is feasible."""
        known = entry.trial.constraints
        for name, value in excess.items():
            if name not in known:
                entry.trial.set_constraint(name, value)

    def measured(self, entry: Entry, throughput: Throughput) -> None:
        entry.throughput = throughput
        self.throughputs.setdefault(entry.deploy_id, throughput)
        entry.trial.set_user_attr("throughput", asdict(throughput))

    def confirm(self, entry: Entry, throughput: Throughput) -> None:
        """Keep a second measurement, with the study, as Optuna lets nothing of an ended trial change."""
        entry.confirmed = throughput
        self.optuna.set_user_attr(f"confirmed {entry.number}", asdict(throughput))

    def trained(self, entry: Entry, result: EpochResult) -> None:
        """Add an epoch; one trained again after a crash replaces the lost one."""
        entry.curve[result.epoch - 1 :] = [result]
        entry.trial.set_user_attr(f"epoch {result.epoch}", asdict(result))

    def completed(self, entry: Entry, final: Final) -> None:
        """End a trial at full budget, with its objective values."""
        entry.final = final
        entry.trial.set_user_attr("final", asdict(final))
        self.end(entry, "complete")

    def take_over(self, entry: Entry, earlier: Entry, origin: str) -> None:
        """End a new trial as that of an earlier run did, without training."""
        entry.origin = origin
        entry.trial.set_user_attr("origin", origin)
        if earlier.throughput is not None:
            self.measured(entry, earlier.throughput)
        for result in earlier.curve:
            self.trained(entry, result)
        if earlier.final is not None:
            self.completed(entry, earlier.final)
        else:
            self.end(entry, earlier.outcome, earlier.reason)

    def answered(self, entry: Entry, twin: Entry) -> None:
        """Let the trial of the same network answer, now or when it ends."""
        if entry.twin is None:
            entry.twin = twin.number
            entry.trial.set_user_attr("twin", twin.number)
        if twin.open:
            return
        if twin.throughput and not entry.throughput:
            self.measured(entry, twin.throughput)
        entry.final = twin.final
        if twin.final:
            entry.trial.set_user_attr("final", asdict(twin.final))
        self.end(entry, "duplicate", f"the network of trial {twin.number}", failed=twin.outcome == "failed")

    def end(self, entry: Entry, outcome: Outcome, reason: str = "", failed: bool = False) -> None:
        """Tell Optuna how a trial ended: only one with a result at full budget is COMPLETE."""
        entry.outcome, entry.reason = outcome, reason
        entry.trial.set_user_attr("outcome", outcome)
        if reason:
            entry.trial.set_user_attr("reason", reason)
        if entry.final is not None:
            self.optuna.tell(entry.number, self.values(entry, entry.final.accuracy))
        else:
            failed = failed or outcome == "failed"
            self.optuna.tell(entry.number, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def values(self, entry: Entry, accuracy: float) -> list[float]:
        """Return the objectives in the study's order, with the given accuracy."""
        values = {**entry.known_costs(), "accuracy": accuracy}
        return [values[name] for name in self.objectives]


def entry_of(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> Entry | None:
    """Return a trial as its study's storage has it; None if its network is not known."""
    record = trial.user_attrs
    if "config" not in record:
        return None
    throughput, final = record.get("throughput"), record.get("final")
    confirmed = study.user_attrs.get(f"confirmed {trial.number}") if final else None
    epochs = study.user_attrs["study"]["training"]["epochs"]
    curve, granted = curve_of(record), record.get("granted", 0)
    unfinished: Outcome = "paused" if 0 < granted <= len(curve) < epochs else "running"
    return Entry(
        trial=optuna.Trial(study, trial._trial_id),
        config=record["config"],
        training_id=record["training_id"],
        deploy_id=record["deploy_id"],
        costs=record["costs"],
        seed=record["seed"],
        granted=granted,
        outcome=record.get("outcome", "running") if trial.state.is_finished() else unfinished,
        reason=record.get("reason", ""),
        twin=record.get("twin"),
        retried=record.get("retried", False),
        note=record.get("note", ""),
        origin=record.get("origin"),
        throughput=Throughput(**throughput) if throughput else None,
        confirmed=Throughput(**confirmed) if confirmed else None,
        curve=curve,
        final=Final(**final) if final else None,
    )


def curve_of(record: dict[str, Any]) -> list[EpochResult]:
    """Return the epochs of a trial's record, which has one entry each: rewriting a list would grow with its square."""
    curve: list[EpochResult] = []
    while f"epoch {len(curve) + 1}" in record:
        curve.append(EpochResult(**record[f"epoch {len(curve) + 1}"]))
    return curve


def open_storage(study: Study) -> BaseStorage | str:
    """Return the study's storage, its folder made; a line that a killed process left torn is cut off.

    Call it only while no other process writes to the run.
    """
    if study.storage is not None:
        return study.storage
    path = study.folder / "journal.log"
    mend(path)
    return JournalStorage(JournalFileBackend(str(path)))


def mend(path: Path) -> None:
    """Cut an unfinished last line off, and remove the lock file of a process that is gone."""
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.exists():
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
                os.fsync(file.fileno())


def differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Name the keys whose values differ, with both values."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{path}{key}.")
        elif before != after:
            found.append(f"{path}{key} is {before!r} there and {after!r} here")
    return found
