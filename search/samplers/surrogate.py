"""The surrogate sampler: accuracy is modelled from all rungs, and the expected hypervolume improvement decides."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from record.study import Search
from record.trial import State, Trial
from search.networks import Networks
from search.ranking import Floats
from search.samplers.improvement import expected_hypervolume_improvement
from search.samplers.proposing import Draw, Params, Proposing

POOL = 2000
"""Unseen random networks that are kept from batch to batch."""
FRESH = 64
"""Random networks drawn for each batch."""
PARENTS, CHILDREN = 16, 8
"""Trials of the front that are mutated for each batch, and how often each."""
BATCH, GROWTH = 4, 1 / 64
"""Proposals chosen at a time, so that models are fitted once for several: at least so many, and this share of the
trials, as what many trials say changes slowly."""
SHORTLIST = 256
"""Networks from which the later proposals of a batch are chosen."""
TREES = 40
LEARNT = 1000
"""The most trials that a tree learns from; of more, each draws so many, so that fitting takes as long as before.

That costs nothing that shows: with 100 instead, of some 400 trials, the compute to 90 and 95 % of NAS-Bench-201's
hypervolume is 17 and 53 mean full trainings, else 17 and 57, medians of 10 seeds (`python -m benchmarks.search_methods
nb201_cifar100.npz --methods ours --budget 120 --seeds 10 --save learnt --learnt 100`)."""
RIDGE = (1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Strengths of regularisation to choose from."""
Vectors = NDArray[np.float32]


class Accuracy:
    """Accuracy at the full budget, of any network, from the accuracies at all rungs.

    A trial that was stopped at a rung is extrapolated from rung to rung by lines, fitted to the trials that went on,
    and weighs less, the more these scatter. Extremely randomised trees learn the extrapolated values, and the spread of
    their predictions is the uncertainty.

    Compute to 95 % of a table's hypervolume, in mean full trainings, medians of 10 seeds, with this model, one that
    learns from trials at full budget alone, and one of the highest rung that ten trials have reached: 57, more than 80
    (p = 0.03) and more than 80 (p = 0.05) on NAS-Bench-201; 17, 20 and 23 on cifar16, where p = 0.3 tells nothing
    (`python -m benchmarks.search_methods TABLE --methods ours complete-only highest-rung --save models --seeds 10`,
    with a budget of 80 and of 30). Costs are not modelled with the accuracy, so limits need no model of their own.

    Args:
        budgets: epochs of the rungs, and the full ones.
        entries: trials that have reached the first rung.
        vectors: `(n, features)`, of their networks.
        generator: of the trees' seed.
    """

    def __init__(
        self, budgets: Sequence[int], entries: Sequence[Trial], vectors: Vectors, generator: np.random.Generator
    ) -> None:
        self.epochs = budgets[-1]
        curves = [[e.curve[b - 1].accuracy for b in budgets if len(e.curve) >= b] for e in entries]
        rows, values, variances = self.targets(curves, len(budgets))
        self.lowest = float(values.min())
        weights = 1 / (variances + 0.1 * values.var() + 1e-9)
        self.trees = forest(TREES, len(rows), int(generator.integers(1 << 31)))
        self.trees.fit(vectors[rows], values, sample_weight=weights / weights.mean())

    def targets(self, curves: Sequence[Sequence[float]], budgets: int) -> tuple[list[int], Floats, Floats]:
        """Return which trials are learnt from, the accuracy at the full budget that each stands for, and its variance.

        Args:
            curves: for each trial, its accuracies at the rungs that it has reached.
            budgets: how many there are, the full one included.
        """
        lines = [line([(c[k], c[k + 1]) for c in curves if len(c) > k + 1]) for k in range(budgets - 1)]
        values, variances = np.array([extrapolated(curve, lines) for curve in curves]).T
        return list(range(len(curves))), values, variances

    def knows(self, trial: Trial) -> bool:
        """Whether a trial was trained to the end."""
        return len(trial.curve) >= self.epochs

    def predict(self, vectors: Vectors) -> tuple[Floats, Floats]:
        """Return mean and deviation, each `(n,)`, of networks `(n, features)`."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        each = np.stack([tree.tree_.predict(vectors)[:, 0] for tree in self.trees.estimators_])
        return each.mean(0), each.std(0) + 1e-3


class Encoding:
    """The networks of trials as vectors, each computed once."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: Vectors = np.zeros((0, 0), dtype=np.float32)
        self.vectorizer: Any = None

    def add(self, networks: Sequence[Mapping[str, Any]]) -> None:
        """Append networks, given as `flat` has them; those before lack the features that are new."""
        from sklearn.feature_extraction import DictVectorizer

        names = sorted({*self.names, *DictVectorizer().fit(networks).feature_names_})
        if len(names) > len(self.names):
            wider = np.zeros((len(self.rows), len(names)), dtype=np.float32)
            wider[:, np.searchsorted(names, self.names)] = self.rows
            self.names, self.rows = names, wider
            self.vectorizer = DictVectorizer(sparse=False, dtype=np.float32).fit([dict.fromkeys(names, 1.0)])
        self.rows = np.concatenate([self.rows, self.vectors(networks)])

    def vectors(self, networks: Sequence[Mapping[str, Any]]) -> Vectors:
        """Return other networks as vectors `(n, features)`, without what no trial has."""
        return self.vectorizer.transform(networks)


@dataclass(frozen=True)
class Unseen:
    """A network that could be proposed."""

    params: Params
    features: dict[str, Any]


class SurrogateSampler(Proposing):
    """Proposes, of thousands of unseen networks, those of largest expected hypervolume improvement.

    Costs are predicted from the networks whose counts and throughput are known; the engine then counts and measures
    exactly before it trains. Accuracy is modelled by `Accuracy`, from every trial that has reached a rung. Networks
    that are being trained, and those chosen earlier in a batch, count as trained with their expected accuracy, so that
    workers get no near-twins.
    """

    model: type[Accuracy] = Accuracy
    """What learns the accuracy."""

    def __init__(self, study: Search, trials: Mapping[int, Trial], networks: Networks, seed: int) -> None:
        super().__init__(study, trials, networks, seed)
        self.pool: dict[str, Unseen] = {}
        self.queue: list[Params] = []
        self.in_vain = 0
        """Proposals at random until the next batch, after one that found nothing unseen."""
        self.encoding = Encoding()
        """Of the trials, in their order."""

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Take the next of a batch, for which no trial is looked at, or choose a batch."""
        if self.queue:
            self.proposal = self.queue.pop(0)
        else:
            super().before_trial(study, trial)

    def propose(self, judged: list[Trial]) -> Params:
        """Return the first of a batch."""
        if self.in_vain <= 0:
            self.queue = self.batch(judged)
            self.in_vain = 0 if self.queue else BATCH**2
        self.in_vain -= 1
        return self.queue.pop(0) if self.queue else {}

    def batch(self, judged: list[Trial]) -> list[Params]:
        """Return the next proposals, best first; none if everything that was drawn has been seen."""
        unseen = self.unseen(judged)
        if not unseen:
            return []
        known = list(self.trials.values())
        if new := known[len(self.encoding.rows) :]:
            self.encoding.add([flat(trial.config) for trial in new])
        seen, vectors = self.encoding.rows, self.encoding.vectors([u.features for u in unseen])
        costs = {name: self.predicted(name, known, seen, vectors) for name in self.wanted()}
        kept = np.flatnonzero(self.keeps_limits(costs, len(unseen)))
        if not len(kept):
            return []
        row = {e.number: i for i, e in enumerate(known)}
        model = self.model(self.study.budgets, judged, seen[[row[e.number] for e in judged]], self.generator)
        running = [e for e in known if e.state is State.running and not model.knows(e) and self.costed(e)]
        members = [*(e for e in judged if model.knows(e)), *running]
        front = np.array([e.curve[-1].accuracy for e in judged if model.knows(e)])
        if running:
            front = np.append(front, model.predict(seen[[row[e.number] for e in running]])[0])
        front_costs = np.array([self.cost_losses(e) for e in members]).reshape(len(members), len(self.costs))
        reference = model.lowest, np.max([self.cost_losses(e) for e in judged], axis=0)
        losses = self.signs * np.stack([costs[name][kept] for name in self.costs], 1)
        mean, deviation = model.predict(vectors[kept])
        rows = np.arange(len(kept))
        chosen: list[int] = []
        for _ in range(min(max(BATCH, int(GROWTH * len(known))), len(kept))):
            gain = expected_hypervolume_improvement(
                mean[rows], deviation[rows], losses[rows], front, front_costs, reference
            )
            if not chosen:  # no gain grows as the front does, so those that are far behind are left out from now on
                best_first = np.argsort(-gain, kind="stable")[:SHORTLIST]
                rows, gain = rows[best_first], gain[best_first]
            place = int(gain.argmax())
            best = rows[place]
            rows = np.delete(rows, place)
            chosen.append(best)
            front, front_costs = np.append(front, mean[best]), np.vstack([front_costs, losses[best]])
        return [unseen[kept[row]].params for row in chosen]

    def unseen(self, judged: list[Trial]) -> list[Unseen]:
        """Return networks to choose from: the pool with some new random ones, and mutants of the best trials."""
        seen = {e.training_id for e in self.trials.values()}
        self.pool = {name: u for name, u in list(self.pool.items())[-POOL:] if name not in seen}
        for _ in range(FRESH):
            self.take_up(Draw(self.generator), seen, self.pool)
        found = dict(self.pool)
        parents = self.parents(judged)
        for index in self.generator.permutation(len(parents))[:PARENTS]:
            for mutant in self.mutants(parents[index], CHILDREN):
                self.take_up(mutant, seen, found)
        return list(found.values())

    def take_up(self, draw: Draw, seen: set[str], found: dict[str, Unseen]) -> None:
        """Add what is drawn to `found`, unless it was seen."""
        config, training_id = self.networks.identify(self.networks.suggest(draw))
        if training_id not in seen and training_id not in found:
            found[training_id] = Unseen(draw.params, flat(config))

    def costed(self, trial: Trial) -> bool:
        """Whether all cost objectives of a trial are known: it has been measured."""
        return set(self.costs) <= set(self.study.costs(trial))

    def wanted(self) -> list[str]:
        """Return the costs that are objectives or limited, of those that are known of some network."""
        limited = {name.partition("_")[2] for name in self.study.bounds}
        known = {name for e in self.trials.values() for name in self.study.costs(e)}
        return sorted({*self.costs, *limited} & known)

    def predicted(self, name: str, known: Sequence[Trial], seen: Vectors, unseen: Vectors) -> Floats:
        """Return a cost of unseen networks.

        Time, parameters and multiply-accumulates are sums over the parts of a network, so a linear model comes first,
        which also reaches beyond what was seen, and trees learn what is left.
        """
        from sklearn.linear_model import RidgeCV

        every = [self.study.costs(e) for e in known]
        rows = [i for i, costs in enumerate(every) if name in costs]
        values = np.array([every[i][name] for i in rows], dtype=float)
        rate = name.partition(".")[0] == "throughput"
        spent = 1 / values if rate else values
        scale = spent.mean()
        line = RidgeCV(alphas=RIDGE).fit(seen[rows], spent / scale)
        trees = forest(TREES // 2, len(rows), self.draw_seed(), min_samples_leaf=2)
        trees.fit(seen[rows], spent / scale - line.predict(seen[rows]))
        found = line.predict(unseen) + trees.predict(unseen)
        found = scale * np.maximum(found, 0.5 * spent.min() / scale)
        return 1 / found if rate else found

    def keeps_limits(self, costs: Mapping[str, Floats], count: int) -> NDArray[np.bool_]:
        """Return which networks seem to keep the limits, `(count,)`."""
        kept = np.ones(count, dtype=bool)
        for name, limit in self.study.bounds.items():
            bound, _, cost = name.partition("_")
            if cost in costs:
                kept &= costs[cost] <= limit if bound == "max" else costs[cost] >= limit
        return kept

    def draw_seed(self) -> int:
        return int(self.generator.integers(1 << 31))


def forest(trees: int, trials: int, seed: int, **options: Any) -> Any:
    """Return extremely randomised trees to fit to so many trials; of more than `LEARNT`, each tree draws as many."""
    from sklearn.ensemble import ExtraTreesRegressor

    drawn = {"bootstrap": True, "max_samples": LEARNT} if trials > LEARNT else {}
    return ExtraTreesRegressor(trees, max_features=0.5, random_state=seed, **drawn, **options)


def line(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return slope, intercept and residual variance from one rung to the next.

    The slope shrinks towards 1 where pairs are few; without pairs nothing is known but a wide variance.
    """
    if len(pairs) < 3:
        gain = float(np.mean([after - before for before, after in pairs])) if pairs else 0.0
        return 1.0, gain, 100.0
    before, after = np.array(pairs).T
    prior = before.var() / len(before) + 1e-3
    slope = max(0.05, (np.mean((before - before.mean()) * (after - after.mean())) + prior) / (before.var() + prior))
    intercept = after.mean() - slope * before.mean()
    return float(slope), float(intercept), float(np.mean((after - slope * before - intercept) ** 2))


def extrapolated(curve: Sequence[float], lines: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return the expected accuracy at the full budget, and its variance, of a trial with these accuracies at rungs."""
    value, variance = curve[-1], 0.0
    for slope, intercept, residual in lines[len(curve) - 1 :]:
        value, variance = slope * value + intercept, slope * slope * variance + residual
    return value, variance


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return a configuration as one level of numbers, words and sets of words; what is absent means 0."""
    if value is None:
        return {}
    if isinstance(value, bool | int | float):
        return {name: float(value)}
    if isinstance(value, str):
        return {name: value}
    if isinstance(value, Mapping):
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}.{key}").items()}
    if all(isinstance(part, Mapping | int | float) for part in value):
        return flat(dict(enumerate(value)), name)
    return {name: sorted({json.dumps(part) for part in value})}
