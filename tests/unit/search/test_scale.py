"""What a study costs its driver grows with the trials that are there as little as can be: operations are counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState
from sklearn.feature_extraction import DictVectorizer

from benchmarks.engine.scale import EPOCHS, SPACE, MadeUpNetworks, Workers
from record.recipe import Recipe
from record.resources import Resources
from record.study import Search
from record.trial import State
from search.engine import Engine
from search.journal import Journal
from search.samplers.proposing import Draw
from search.samplers.surrogate import LEARNT, Encoding, flat, forest


def study(folder: Path, trials: int, sampler: str = "random", **changes: Any) -> Search:
    return Search(
        name="t",
        space=SPACE,
        training=Recipe(epochs=EPOCHS),
        trials=trials,
        sampler=sampler,
        resources=Resources(concurrent=8),
        runs=str(folder),
        **changes,
    )


class Walked(dict[int, Any]):
    """Counts how often all of it was gone through."""

    walks = 0

    def __iter__(self) -> Iterator[int]:
        self.walks += 1
        return super().__iter__()

    def values(self) -> Any:
        self.walks += 1
        return super().values()

    def items(self) -> Any:
        self.walks += 1
        return super().items()


@pytest.mark.parametrize(("trials", "sampler"), [(90, "random"), (90, "surrogate")])
def test_no_report_and_no_task_goes_through_all_trials(tmp_path: Path, trials: int, sampler: str) -> None:
    journal = Journal(study(tmp_path, trials, sampler), InMemoryStorage())
    journal.trials = Walked(journal.trials)
    engine = Engine(journal, MadeUpNetworks())
    walks, asked = journal.trials, [0]
    candidate = engine.candidate

    def counted() -> Any:
        before = walks.walks
        found = candidate()
        asked[0] += walks.walks - before
        return found

    walks.walks = 0
    engine.candidate = counted  # type: ignore[method-assign]
    Workers(engine).work()
    assert engine.finished
    assert {t.state for t in dict.values(walks)} >= {State.complete, State.stopped}
    assert walks.walks == asked[0]
    assert (asked[0] == 0) == (sampler == "random")


def test_a_new_trial_in_a_database_reads_none_of_those_that_are_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(study(tmp_path, 50, storage=f"sqlite:///{tmp_path / 'study.db'}"))
    read = []
    build = RDBStorage._build_frozen_trial_from_trial_model
    monkeypatch.setattr(
        RDBStorage, "_build_frozen_trial_from_trial_model", lambda *given: read.append(given) or build(*given)
    )
    counts = []
    for _ in range(4):
        journal.ask()
        counts.append(len(read))
        read.clear()
    assert counts[1:] == counts[:1] * 3
    journal.optuna.enqueue_trial({"x": 7})
    assert journal.ask().suggest_categorical("x", range(1000)) == 7
    assert not journal.optuna.get_trials(states=(TrialState.WAITING,))


def test_what_counts_is_counted_as_it_changes(tmp_path: Path) -> None:
    engine = Engine(Journal(study(tmp_path, 40), InMemoryStorage()), MadeUpNetworks())
    Workers(engine).work()
    journal = engine.journal
    ended = State.duplicate, State.infeasible
    counted = {t.number for t in journal.trials.values() if t.state not in ended and t.twin is None and not t.origin}
    assert journal.counted == counted
    assert not journal.live
    front = engine.policy.front(t for t in journal.trials.values() if t.state is State.complete)
    assert {t.number for t in engine.policy.front(engine.complete)} == {t.number for t in front}


def test_networks_are_encoded_bit_by_bit_as_they_are_all_at_once() -> None:
    networks, generator = MadeUpNetworks(), np.random.default_rng(0)
    drawn = [flat(networks.identify(networks.suggest(Draw(generator)))[0]) for _ in range(40)]
    drawn.sort(key=len)  # so that later ones bring new features
    encoding, at_once = Encoding(), DictVectorizer(sparse=False, dtype=np.float32)
    for start, end in ((0, 1), (1, 3), (3, 30), (30, 40)):
        encoding.add(drawn[start:end])
        np.testing.assert_array_equal(encoding.rows, at_once.fit_transform(drawn[:end]))
        np.testing.assert_array_equal(encoding.vectors(drawn), at_once.transform(drawn))


def test_a_tree_learns_from_no_more_than_so_many_trials() -> None:
    vectors = np.random.default_rng(0).random((3 * LEARNT, 2), dtype=np.float32)
    few, many = (forest(2, n, 0).fit(vectors[:n], vectors[:n, 0]) for n in (LEARNT, 3 * LEARNT))
    assert [tree.tree_.n_node_samples[0] for tree in few.estimators_] == [LEARNT] * 2
    assert all(0.7 * LEARNT < tree.tree_.n_node_samples[0] <= LEARNT for tree in many.estimators_)
