"""The journal of a study: the only writer of its trials, into Optuna's storage, which is the only source of truth."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from record.folders import hidden
from record.measure import Measurement
from record.run import Run, RunError, study_in, trials_in
from record.same import differences, public
from record.stored import FORMAT
from record.study import Comparison, Study, StudyError
from record.trial import FOLLOWING, PLAIN, EpochResult, Final, State, Trial, stored
from search.networks import Description
from search.storage import study_in_storage
from search.training.precision import native

UNCOUNTED = State.duplicate, State.infeasible


class Journal:
    """Writes trials as they go, and reads them back to continue.

    Args:
        study: whose trials it holds.
        storage: where; None takes the study's own.

    Raises:
        StudyError: if the storage holds another study under this name.
    """

    def __init__(self, study: Study, storage: BaseStorage | None = None) -> None:
        self.optuna = study_in_storage(study, storage)
        self.study = self.claimed(study)
        """The study as this run has it: with the precision that was settled when it began."""
        self.trials: dict[int, Trial] = {}
        self.live: dict[int, optuna.Trial] = {}
        """What Optuna takes for a trial, by number."""
        self.first: dict[tuple[str, int], Trial] = {}
        """Training id and seed to the trial that answers for them."""
        self.speeds: dict[str, dict[str, Measurement]] = {}
        """Deploy id to the measurement that counts at each point."""
        self.twice: dict[str, dict[str, Measurement]] = {}
        """The same, of those that were made a second time."""
        self.alike: dict[str, list[Trial]] = {}
        """Deploy id to the trials that have it."""
        self.asking: dict[int, list[Trial]] = {}
        """Number of a trial that has not ended to the trials that it will answer for."""
        self.following = 0
        """Number after that of the last trial asked for."""
        self.counted: set[int] = set()
        """Numbers of the trials that count against the budget."""
        frozen = {t.number: t for t in self.optuna.get_trials(deepcopy=False)}
        for trial in trials_in(self.optuna, self.study):
            self.adopt(trial, frozen[trial.number])

    def claimed(self, study: Study) -> Study:
        """Write the study on first use; later see that it may go on, and write what it is now.

        Returns:
            The study, with the precision that this run has; one that leaves it to the processor takes the recorded.
        """
        if "study" not in self.optuna.user_attrs:
            study = study.settled(native(study.resources.device))
        else:
            try:
                known = study_in(self.optuna, str(study.folder))
            except RunError as error:
                raise StudyError(str(error)) from None
            study = study.settled(known.training.precision)
            changed = differences(known, study)
            if changed:
                raise StudyError(
                    f"{study.folder} belongs to another study: {', '.join(changed)}. Name this one anew with name=NEW, "
                    "or take the changes back to continue."
                )
        kept = {"study": public(study), "objectives": [q.name for q in study.quantities], "format": FORMAT}
        for name, value in kept.items():
            if self.optuna.user_attrs.get(name) != value:
                self.optuna.set_user_attr(name, value)
        return study

    def opened(self, reference: dict[str, float], environment: dict[str, Any]) -> None:
        """Note the hypervolume's reference point, unless one is fixed already, and where the study now runs."""
        known = self.optuna.user_attrs
        if "reference" not in known:
            self.optuna.set_user_attr("reference", reference)
        self.optuna.set_user_attr("environments", [*known.get("environments", []), environment])

    def run(self) -> Run:
        """Return the run as readers see it, of the trials as they are now."""
        known, study = self.optuna.user_attrs, self.study
        return Run(
            study=study,
            entries=list(self.trials.values()),
            reference=known.get("reference", {}),
            environments=known.get("environments", []),
            source=hidden(f"{study.storage}#{study.name}") if study.storage else str(study.folder),
            folder=study.folder,
        )

    def adopt(self, trial: Trial, frozen: FrozenTrial) -> None:
        """Take one trial up again; one that was cut off before it was described ends as failed.

        What was enqueued for such a one is enqueued again.
        """
        if trial.open:
            self.live[trial.number] = optuna.Trial(self.optuna, frozen._trial_id)
        if not trial.config:
            if trial.open:
                self.live[trial.number].set_user_attr("reason", "interrupted before its network was chosen")
                if (wanted := frozen.system_attrs.get("fixed_params")) is not None:
                    self.optuna.enqueue_trial(wanted, {"given": frozen.user_attrs.get("given")})
                self.optuna.tell(trial.number, state=TrialState.FAIL)
            return
        self.keep(trial)
        recorded = frozen.user_attrs.get("outcome")
        if recorded and trial.open:  # cut off between its record and Optuna's
            self.end(trial, State(recorded), trial.reason)

    def enqueue(self, params: dict[str, Any], given: Mapping[str, Any] | None = None) -> None:
        """Have a network asked for before others: by its parameters, if they are new, or one that is described."""
        if given is None:
            self.optuna.enqueue_trial(params, skip_if_exists=True)
        else:
            self.optuna.enqueue_trial(params, {"given": given})

    def ask(self) -> optuna.Trial:
        """Return the next trial that is enqueued, by this tool or by a dashboard, else a new one.

        Optuna's own `ask` looks for those in all trials, and first reads all from a database again that have not ended.
        They have numbers, lowest first, so it need only look if there is a trial after the one that it gave last.
        """
        storage, study = self.optuna._storage, self.optuna._study_id
        try:
            storage.get_trial_id_from_study_id_trial_number(study, self.following)
            another = True
        except KeyError:
            another = False
        if another:
            live = self.optuna.ask()
        else:
            self.optuna._thread_local.cached_all_trials = None  # what samplers read once a trial, as in Optuna's `ask`
            live = optuna.Trial(self.optuna, storage.create_new_trial(study))
        self.following = live.number + 1
        return live

    def add(self, live: optuna.Trial, params: dict[str, Any], description: Description, seed: int) -> Trial:
        """Describe a new trial."""
        known = {name: getattr(description, name) for name in ("config", "training_id", "deploy_id", "costs")}
        trial = Trial(live.number, params=params, seed=seed, start=live.datetime_start, **known)
        self.live[trial.number] = live
        self.write(trial, "params", "training_id", "deploy_id", "costs", "seed", "config")
        self.keep(trial)
        return trial

    def keep(self, trial: Trial) -> None:
        """Take a trial up, and remember the first one that trains its network."""
        self.trials[trial.number] = trial
        self.alike.setdefault(trial.deploy_id, []).append(trial)
        self.count(trial)
        listed = isinstance(self.study, Comparison)
        if trial.twin is None and not (listed and trial.state is State.failed):  # which is tried again
            self.first.setdefault(trial.training, trial)
        if trial.confirmed:
            self.twice.setdefault(trial.deploy_id, {}).update(trial.confirmed)
        if trial.measured or trial.confirmed:
            speeds = self.speeds.setdefault(trial.deploy_id, {})
            self.speeds[trial.deploy_id] = {**trial.measured, **speeds, **trial.confirmed}

    def count(self, trial: Trial) -> None:
        """Note whether a trial counts against the budget: all but duplicates, infeasible ones and earlier runs' do."""
        counts = trial.state not in UNCOUNTED and trial.twin is None and not trial.origin
        (self.counted.add if counts else self.counted.discard)(trial.number)

    def write(self, trial: Trial, *names: str) -> None:
        """Write some fields of a trial."""
        for key, value in stored(trial, names).items():
            self.live[trial.number].set_user_attr(key, value)

    def note(self, trial: Trial, **values: Any) -> None:
        """Change and write fields that are stored as they are: `granted`, `retried`, `note`, `origin`, `twin`."""
        for name, value in values.items():
            assert name in PLAIN
            setattr(trial, name, value)
        self.count(trial)
        self.write(trial, *values)

    def move(self, trial: Trial, state: State) -> None:
        """Change the state of a trial.

        Raises:
            ValueError: if that cannot follow the one it is in.
        """
        if state not in FOLLOWING[trial.state]:
            raise ValueError(f"trial {trial.number} is {trial.state}, after which it cannot be {state}.")
        trial.state = state
        self.count(trial)

    def grant(self, trial: Trial, epochs: int) -> None:
        """Let a trial train until it has `epochs`."""
        if trial.state is not State.running:
            self.move(trial, State.running)
        self.note(trial, granted=epochs)

    def constrain(self, trial: Trial, excess: dict[str, float]) -> None:
        """Tell the sampler how far each limit is exceeded; at most 0 is feasible."""
        live = self.live[trial.number]
        known = live.constraints
        for name, value in excess.items():
            if name not in known:
                live.set_constraint(name, value)

    def measured(self, trial: Trial, found: Mapping[str, Measurement]) -> None:
        """Keep measurements, by point, for all trials with the same converted form."""
        trial.measured = {**trial.measured, **found}
        self.speeds[trial.deploy_id] = {**found, **self.speeds.get(trial.deploy_id, {})}
        self.write(trial, *(f"measured.{point}" for point in found))

    def measured_again(self, trial: Trial, made: Mapping[str, Measurement]) -> None:
        """Keep second measurements, and first ones of points that only the front is measured at.

        The second ones count for all trials with the same converted form that have not ended.
        """
        found = {point: of_point for point, of_point in made.items() if point in self.study.confirmed}
        self.measured(trial, {point: of_point for point, of_point in made.items() if point not in found})
        for kept in (self.speeds, self.twice):
            kept[trial.deploy_id] = {**kept.get(trial.deploy_id, {}), **found}
        for other in self.alike[trial.deploy_id]:
            if other.open:
                other.confirmed = {**other.confirmed, **found}
                self.write(other, *(f"confirmed.{point}" for point in found))

    def trained(self, trial: Trial, result: EpochResult) -> None:
        """Add an epoch; one trained again after a crash replaces the lost one.

        Raises:
            ValueError: if the one before it is not recorded.
        """
        if result.epoch > len(trial.curve) + 1:
            raise ValueError(f"trial {trial.number}: epoch {result.epoch} cannot follow {len(trial.curve)} recorded.")
        trial.curve[result.epoch - 1 :] = [result]
        self.write(trial, "curve")

    def finished(self, trial: Trial, final: Final) -> None:
        """Keep what a trial gave at full budget; it does not end by that, as it may be measured once more."""
        trial.final = final
        self.write(trial, "final")

    def take_over(self, trial: Trial, earlier: Trial, origin: str) -> None:
        """End a new trial as that of an earlier run did, without training."""
        self.note(trial, origin=origin)
        if known := {**earlier.measured, **earlier.confirmed}:
            self.measured(trial, {point: found for point, found in known.items() if point in self.study.points})
        for result in earlier.curve:
            self.trained(trial, result)
        if earlier.final is not None:
            self.finished(trial, earlier.final)
        self.end(trial, earlier.state, earlier.reason)

    def answered(self, trial: Trial, twin: Trial) -> None:
        """Let the trial of the same network answer, now or when it ends."""
        if trial.twin is None:
            self.note(trial, twin=twin.number)
        if twin.open:
            self.asking.setdefault(twin.number, []).append(trial)
            return
        known = {**twin.measured, **twin.confirmed}
        if missing := {point: found for point, found in known.items() if trial.measurement(point) is None}:
            self.measured(trial, missing)
        if twin.final:
            self.finished(trial, twin.final)
        self.end(trial, State.duplicate, f"the network of trial {twin.number}", twin.state is State.failed)

    def end(self, trial: Trial, state: State, reason: str = "", failed: bool = False) -> None:
        """Tell Optuna how a trial ended: only one with a result at full budget is COMPLETE."""
        self.move(trial, state)
        trial.reason = reason
        self.write(trial, "state", *(["reason"] if reason else []))
        if trial.final is not None:
            told = self.optuna.tell(trial.number, self.values(trial, trial.final.accuracy))
        else:
            failed = failed or state is State.failed
            told = self.optuna.tell(trial.number, state=TrialState.FAIL if failed else TrialState.PRUNED)
        trial.end = told.datetime_complete
        del self.live[trial.number]  # nothing that has ended changes

    def values(self, trial: Trial, accuracy: float) -> list[float]:
        """Return the objectives of a trained network in the study's order, with the given accuracy."""
        others = trial.final.others if trial.final else {}
        known = {**self.study.costs(trial), **others, "accuracy": accuracy}
        return [known[q.name] for q in self.study.quantities]

    def early(self, trial: Trial, accuracy: float) -> list[float]:
        """Return the objectives that are known before a training ends, with the accuracy of a rung."""
        known = {**self.study.costs(trial), "accuracy": accuracy}
        return [known[q.name] for q in self.study.early]
