from pathlib import Path

import numpy as np
import pytest

from benchmarks.search_methods import METHODS, reached
from record.study import Search
from search.backends.table import hypervolume_over_time, simulate
from search.backends.tables import ChoiceSpace, Table, TableError, nas_bench_201, nas_bench_301, read_table, write_table
from search.networks import Description, SpaceNetworks
from search.samplers.proposing import Draw
from spaces.cifar_mlp import CifarMLPSpace
from spaces.enumeration import outcomes
from tests.driving import IMAGE

OBJECTIVES: tuple[str, ...] = ("accuracy", "macs")


def made_up(epochs: int = 9) -> Table:
    """All 3^5 networks of five choices: each costs its sum, and learns the better, the more it costs, but for one."""
    genomes = np.stack(np.meshgrid(*[np.arange(3)] * 5, indexing="ij"), -1).reshape(-1, 5).astype(np.int8)
    space = ChoiceSpace({f"p{i}": (0, 1, 2) for i in range(5)}, genomes)
    macs = 100 + 10 * genomes.sum(1) + genomes[:, 0]
    final = 40 + 4.0 * genomes.sum(1) - 15 * (genomes[:, 1] == 1) + genomes[:, 4]
    curve = final[:, None] * (1 - 0.6 * np.exp(-np.arange(1, epochs + 1) / 3))
    return Table(
        name="made_up",
        space=space,
        image=(3, (8, 8), 10),
        descriptions=[
            Description(space.config(i), str(i), str(i), {"params": 1, "macs": int(m)}) for i, m in enumerate(macs)
        ],
        accuracy=curve,
        seconds=np.ones_like(curve),
    )


def study(**changes: object) -> Search:
    return Search.model_validate({"name": "t", "objectives": OBJECTIVES, "trials": 40, "sampler": "random", **changes})


def test_a_search_on_a_table_takes_the_seconds_that_training_would() -> None:
    table = made_up()
    completed = simulate(table, study(trials=6, halving=None), workers=2)
    assert [c.seconds for c in completed] == [9.0, 9.0, 18.0, 18.0, 27.0, 27.0]


def test_halving_trains_few_to_the_end() -> None:
    completed = simulate(made_up(), study(trials=60), workers=4)
    assert 3 <= len(completed) <= 20
    assert completed[-1].seconds < 60 * 9 / 4 / 2


def test_time_ends_a_search() -> None:
    completed = simulate(made_up(), study(trials=200), workers=4, seconds=30)
    assert completed
    assert completed[-1].seconds < 30 + 9


def test_the_whole_table_is_the_whole_hypervolume() -> None:
    table = made_up()
    times, shares = hypervolume_over_time(table, simulate(table, study(trials=243, halving=None)), OBJECTIVES)
    assert shares[-1] == pytest.approx(1)
    assert (np.diff(shares) > 0).all()
    assert (np.diff(times) >= 0).all()


def test_one_worker_and_one_seed_give_one_search() -> None:
    runs = [simulate(made_up(), study(sampler="surrogate", seed=3), workers=1, seconds=150) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "moasha"])
def test_every_method_finds_a_front(method: str) -> None:
    table = made_up()
    unit = table.whole.mean() / 8
    compute = reached(table, OBJECTIVES, METHODS[method](table, OBJECTIVES, 0, 60 * unit))
    assert compute[0] <= 60
    assert sorted(compute) == compute


def test_moasha_is_driven_through_its_own_interface() -> None:
    pytest.importorskip("syne_tune", reason="syne-tune is an optional extra")
    table = made_up()
    completed = METHODS["moasha"](table, OBJECTIVES, 0, 60 * table.whole.mean() / 8)
    assert 5 < len(completed) < 60


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    space = CifarMLPSpace(channels=((4, 8),), blocks=(1,), partitions=(4,), groups=(1,), kernels=((), (1, 3)), head=8)
    networks = SpaceNetworks(space, IMAGE)
    found = {networks.describe(n).training_id: networks.describe(n) for n in outcomes(lambda t: networks.suggest(t))}
    assert len(found) == space.count(*IMAGE)
    count = len(found)
    table = Table(
        name="t",
        space=space,
        image=IMAGE,
        descriptions=list(found.values()),
        accuracy=np.linspace(10, 50, count * 3).reshape(count, 3).astype(np.float32),
        seconds=np.full((count, 3), 2.0),
        throughput=np.arange(1.0, count + 1),
    )
    path = tmp_path / "t.parquet"
    write_table(path, table, {"command": "x"})
    read = read_table(path)
    assert (read.space, read.image, list(read.descriptions)) == (space, IMAGE, table.descriptions)
    for name in ("accuracy", "seconds", "throughput"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
    completed = simulate(read, study(objectives=("accuracy", "throughput"), trials=20), workers=2)
    assert completed


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(TableError, match="is not a recorded table"):
        read_table(tmp_path / "x.parquet")
    with pytest.raises(TableError, match="does not hold"):
        made_up().describe(next(iter(outcomes(lambda t: CifarMLPSpace().suggest(t, *IMAGE)))))
    with pytest.raises(TableError, match="has no throughput"):
        made_up().values("latency")


def test_public_tables_load() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "tables"
    if not folder.is_dir():
        pytest.skip("there is no ../shared/data/tables")
    nb201 = nas_bench_201(folder / "nb201_cifar100.npz")
    assert nb201.accuracy.shape == (15421, 2)
    assert nb201.values("latency").min() == pytest.approx(7.2027, abs=1e-3)
    first, second = (nas_bench_301(folder / "nb301.npz", second=s) for s in (False, True))
    assert first.accuracy.shape == second.accuracy.shape == (11690, 98)
    assert first.accuracy[:, -1].max() == pytest.approx(96.24, abs=0.01)
    assert second.accuracy[:, -1].max() == pytest.approx(93.69, abs=0.01)
    drawn = first.suggest(Draw(np.random.default_rng(0)))
    config = first.describe(drawn).config
    assert first.suggest(Draw(np.random.default_rng(1), config)) == drawn


def test_models_find_a_better_front_than_chance() -> None:
    genomes = np.stack(np.meshgrid(*[np.arange(3)] * 7, indexing="ij"), -1).reshape(-1, 7).astype(np.int8)
    space = ChoiceSpace({f"p{i}": (0, 1, 2) for i in range(7)}, genomes)
    macs = 100 + 10 * genomes.sum(1)
    final = 30 + genomes @ np.array([9, 7, 5, 3, 1, -1, -3]) - 15 * (genomes[:, 1] == 1)
    table = Table(
        name="larger",
        space=space,
        image=(3, (8, 8), 10),
        descriptions=[
            Description(space.config(i), str(i), str(i), {"params": 1, "macs": int(m)}) for i, m in enumerate(macs)
        ],
        accuracy=final[:, None] * np.array([0.6, 0.8, 1.0]),
        seconds=np.ones((len(macs), 3)),
    )
    shares = {
        sampler: [
            hypervolume_over_time(
                table,
                simulate(table, study(sampler=sampler, trials=60, halving=None, seed=seed), 4),
                OBJECTIVES,
            )[1][-1]
            for seed in range(3)
        ]
        for sampler in ("surrogate", "random")
    }
    assert min(shares["surrogate"]) > max(shares["random"])
