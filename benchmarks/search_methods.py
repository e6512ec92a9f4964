"""Claim: ours finds better fronts for the same compute than Optuna's samplers, random search and Syne Tune's MOASHA.

Every method searches a recorded table with 8 workers under a virtual clock. Random search, TPE and NSGA-II train each
proposal to the end, repeats too, as plain Optuna does; MOASHA is Syne Tune's own scheduler, with the rungs of ours.
`ours` is the engine, sampler and halving that a study has by default. The hypervolume, against the worst value of each
objective in the table, counts networks trained to the end, as a share of the whole table's. Compute is the workers'
time, in mean full trainings. `python -m benchmarks.search_methods TABLE [--second] [--methods ours tpe] [--seeds 20]`,
where TABLE is a recorded table (.parquet), or nb201_*.npz or nb301.npz (`--second`: its second curves). The rows go to
`benchmarks/measured/search_methods-TABLE.csv`. `--methods ours complete-only highest-rung --save models` compares how
the model of accuracy learns from trials that were stopped. MOASHA needs `pip install syne-tune`.
"""

import argparse
import heapq
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from scipy.stats import wilcoxon

from record.quantities import QUANTITIES
from record.study import Search
from search.backends.table import Completed, hypervolume_over_time, simulate
from search.backends.tables import Table, nas_bench_201, nas_bench_301, read_table
from search.policies.halving import Halving
from search.ranking import Floats
from search.samplers import surrogate
from search.samplers.proposing import STARTUP, Draw
from search.samplers.surrogate import Accuracy, SurrogateSampler

WORKERS = 8
SHARES = (0.9, 0.95, 0.99)
Objectives = tuple[str, ...]
Method = Callable[[Table, Objectives, int, float], list[Completed]]
MEASURED = Path(__file__).parent / "measured"


def study(table: Table, objectives: Objectives, seed: int, sampler: str) -> Search:
    """Return a study that is as by default, apart from what the table fixes."""
    slowest = float(table.values("latency").max()) if "latency" in objectives else None
    limits = {} if slowest is None else {"max_latency": slowest}
    return Search(name=table.name, trials=10**6, seed=seed, sampler=sampler, objectives=objectives, limits=limits)


def ours(table: Table, objectives: Objectives, seed: int, seconds: float) -> list[Completed]:
    return simulate(table, study(table, objectives, seed, "surrogate"), WORKERS, seconds)


def random_halving(table: Table, objectives: Objectives, seed: int, seconds: float) -> list[Completed]:
    return simulate(table, study(table, objectives, seed, "random"), WORKERS, seconds)


class CompleteOnly(Accuracy):
    """Learns from trials at full budget alone, once there are ten; until then from all as they are."""

    def targets(self, curves: Sequence[Sequence[float]], budgets: int) -> tuple[list[int], Floats, Floats]:
        rows = [row for row, curve in enumerate(curves) if len(curve) == budgets]
        rows = rows if len(rows) >= STARTUP else list(range(len(curves)))
        return rows, np.array([curves[row][-1] for row in rows]), np.zeros(len(rows))


class HighestRung(Accuracy):
    """Learns from the highest rung that ten trials have reached, as BOHB does (Falkner et al. 2018)."""

    def targets(self, curves: Sequence[Sequence[float]], budgets: int) -> tuple[list[int], Floats, Floats]:
        enough = [k for k in range(budgets) if sum(len(c) > k for c in curves) >= STARTUP]
        rung = max(enough, default=0)
        rows = [row for row, curve in enumerate(curves) if len(curve) > rung]
        return rows, np.array([curves[row][rung] for row in rows]), np.zeros(len(rows))


def with_model(model: type[Accuracy]) -> Method:
    """Return ours with another model of accuracy."""

    def search(table: Table, objectives: Objectives, seed: int, seconds: float) -> list[Completed]:
        kept, SurrogateSampler.model = SurrogateSampler.model, model
        try:
            return ours(table, objectives, seed, seconds)
        finally:
            SurrogateSampler.model = kept

    return search


def plain(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Method:
    """Return a search by ask and tell, each proposal trained to the end."""

    def search(table: Table, objectives: Objectives, seed: int, seconds: float) -> list[Completed]:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directions = [QUANTITIES[o].better or "maximize" for o in objectives]
        asked = optuna.create_study(sampler=sampler(seed), directions=directions)
        values = np.stack([table.values(o) for o in objectives], 1)
        running: list[tuple[float, int, int]] = []
        completed: list[Completed] = []
        now = 0.0
        while now < seconds:
            while len(running) < WORKERS:
                trial = asked.ask()
                row = table.rows[table.identify(table.suggest(trial))[1]]
                heapq.heappush(running, (now + float(table.whole[row]), trial.number, row))
            now, number, row = heapq.heappop(running)
            asked.tell(number, list(values[row]))
            completed.append(Completed(now, row))
        return completed

    return search


def moasha(table: Table, objectives: Objectives, seed: int, seconds: float) -> list[Completed]:
    """Drive Syne Tune's MOASHA, which draws at random and stops by non-dominated rank."""
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import randint
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    np.random.seed(seed)
    first = Halving().rungs(table.epochs)[0]
    signs = [-1.0 if QUANTITIES[o].maximised else 1.0 for o in objectives]
    scheduler = MOASHA(
        {"draw": randint(0, 2**31 - 1)}, list(objectives), max_t=table.epochs, grace_period=first, random_seed=seed
    )
    running: list[tuple[float, int, int, int]] = []
    completed: list[Completed] = []
    trials: dict[int, Trial] = {}
    now = 0.0
    while now < seconds:
        while len(running) < WORKERS:
            config = scheduler.suggest().config
            trial = trials[len(trials)] = Trial(len(trials), config, None)
            scheduler.on_trial_add(trial)
            network = table.suggest(Draw(np.random.default_rng(config["draw"])))
            row = table.rows[table.identify(network)[1]]
            heapq.heappush(running, (now + float(table.seconds[row, 0]), trial.trial_id, row, 1))
        now, number, row, epoch = heapq.heappop(running)
        known = [table.accuracy[row, epoch - 1] if o == "accuracy" else table.values(o)[row] for o in objectives]
        result: dict[str, Any] = {o: s * v for o, s, v in zip(objectives, signs, known, strict=True)}
        result["training_iteration"] = epoch
        if epoch == table.epochs:
            completed.append(Completed(now, row))
            scheduler.on_trial_complete(trials[number], result)
        elif scheduler.on_trial_result(trials[number], result) == "CONTINUE":
            heapq.heappush(running, (now + float(table.seconds[row, epoch]), number, row, epoch + 1))
    return completed


METHODS: dict[str, Method] = {
    "ours": ours,
    "random+halving": random_halving,
    "moasha": moasha,
    "tpe": plain(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "nsga2": plain(lambda seed: optuna.samplers.NSGAIISampler(seed=seed)),
    "random": plain(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
}
MODELS: dict[str, Method] = {"complete-only": with_model(CompleteOnly), "highest-rung": with_model(HighestRung)}
"""Ours, taught otherwise by trials that were stopped: the evidence for its default."""


def load(path: Path, second: bool) -> tuple[Table, Objectives]:
    """Return a table and the objectives that it is searched for."""
    if path.suffix == ".parquet":
        return read_table(path), ("accuracy", "throughput")
    if path.name.startswith("nb201"):
        return nas_bench_201(path), ("accuracy", "latency")
    return nas_bench_301(path, second), ("accuracy", "macs")


def reached(table: Table, objectives: Objectives, completed: list[Completed]) -> list[float]:
    """Return the compute at which each of `SHARES` was reached, in mean full trainings; infinite if never."""
    times, shares = hypervolume_over_time(table, completed, objectives)
    compute = times * WORKERS / table.whole.mean()
    return [float(compute[shares >= share][0]) if (shares >= share).any() else np.inf for share in SHARES]


def summary(name: str, rows: pd.DataFrame) -> dict[str, object]:
    """Return the median and quartiles of a method, and p of its seeds being no slower than ours at 90 and 95 %."""
    found: dict[str, object] = {"method": name}
    mine = rows[rows["method"] == name].set_index("seed")
    best = rows[rows["method"] == "ours"].set_index("seed")
    for share in SHARES:
        column = f"to {share:.0%}"
        low, median, high = np.quantile(mine[column], (0.25, 0.5, 0.75), method="nearest")
        found[column] = f"{median:.1f} ({low:.1f}-{high:.1f})"
        if name != "ours" and len(best) == len(mine) > 1:
            budget = rows["budget"].max()
            difference = best[column].clip(upper=budget) - mine[column].clip(upper=budget)
            test = wilcoxon(difference, alternative="less") if difference.any() else None
            found[f"p {share:.0%}"] = f"{test.pvalue:.1g}" if test else "1"
    found["seconds"] = round(float(mine["seconds"].mean()), 1)
    return found


def figure(table: Table, curves: dict[str, list[tuple[Any, Any]]], budget: float, path: Path) -> None:
    """Draw the median hypervolume of each method against compute, with its quartiles."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    axis = plt.figure(figsize=(7, 4.5)).gca()
    grid = np.linspace(0, budget, 400)
    for name, runs in curves.items():
        shares = np.array([[s[t <= x].max(initial=0.0) for x in grid] for t, s in runs])
        low, median, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0)
        (line,) = axis.plot(grid, median, label=name, linewidth=2.5 if name == "ours" else 1.3)
        axis.fill_between(grid, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.set(xlabel="compute, in mean full trainings", ylabel="share of the table's hypervolume", ylim=(0.5, 1))
    axis.set_title(f"{table.name}: median and quartiles of {len(next(iter(curves.values())))} seeds")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    axis.figure.savefig(path, bbox_inches="tight", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--second", action="store_true", help="the second curves of nb301.npz")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *MODELS], default=list(METHODS))
    parser.add_argument("--save", default="search_methods", help="first part of the names of the files written")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=160, help="compute a search may use, in mean full trainings")
    parser.add_argument("--learnt", type=int, default=surrogate.LEARNT, help="the most trials that a tree learns from")
    arguments = parser.parse_args()
    surrogate.LEARNT = arguments.learnt
    table, objectives = load(arguments.table, arguments.second)
    unit = float(table.whole.mean()) / WORKERS
    rows: list[dict[str, object]] = []
    curves: dict[str, list[tuple[Any, Any]]] = {}
    for name in arguments.methods:
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            completed = {**METHODS, **MODELS}[name](table, objectives, seed, arguments.budget * unit)
            spent = time.perf_counter() - start
            times, shares = hypervolume_over_time(table, completed, objectives)
            curves.setdefault(name, []).append((times / unit, shares))
            to = {f"to {s:.0%}": v for s, v in zip(SHARES, reached(table, objectives, completed), strict=True)}
            rows.append({"method": name, "seed": seed, **to, "budget": arguments.budget, "seconds": round(spent, 2)})
        print(json.dumps(summary(name, pd.DataFrame(rows))), flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(MEASURED / f"{arguments.save}-{table.name}.csv", index=False, float_format="%.2f")
    figure(table, curves, arguments.budget, MEASURED / f"{arguments.save}-{table.name}.png")
    print(pd.DataFrame([summary(name, frame) for name in arguments.methods]).to_string(index=False))
    medians = {
        name: {c: float(np.quantile(of[c], 0.5, method="nearest")) for c in (f"to {s:.0%}" for s in SHARES)}
        for name, of in frame.groupby("method", sort=False)
    }
    finite = {n: {c: v if np.isfinite(v) else None for c, v in m.items()} for n, m in medians.items()}
    print(json.dumps({table.name: finite}))


if __name__ == "__main__":
    main()
