from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from record.files import read_study
from record.study import StudyError
from repmlp import build
from search.draws import random_networks, reference_point
from spaces.cifar_mlp import CifarMLPSpace
from tests.driving import IMAGE

STUDIES = sorted(Path("studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=str)
def test_ready_made_studies_are_valid(path: Path) -> None:
    assert read_study(path).name == path.stem


def test_overrides_go_into_the_study(tiny: Path) -> None:
    study = read_study(tiny, ["trials=9", "training.epochs=2", "halving=null", "space.groups=[1]"])
    assert (study.trials, study.training.epochs, study.rungs, study.space.groups) == (9, 2, (), (1,))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trails=3", "unknown key trails; did you mean trials?"),
        ("training.epoch=3", "unknown key training.epoch; did you mean epochs?"),
        ("space.group=[1]", "unknown key space.group; did you mean groups?"),
        ("trials=many", "trials='many'"),
        ("trials=0", "greater than or equal to 1"),
        ("training.learning_rate=-1", "training.learning_rate=-1"),
        (
            "objectives=[accuracy]",
            "at least one of accuracy_int8, throughput, latency, latency_p99, peak_memory, size, energy, macs, params",
        ),
        ("objectives=[accuracy, speed]", "'speed'"),
        ("sampler=cmaes", "must be one of surrogate, local, random, tpe, nsga2, gp"),
        ("space.kernels=[[2]]", "space: kernel=2 must be odd"),
        ("space.groups=2", "space.groups=2: should be a list"),
        ("halving=3", "scheduler=3: should be a mapping"),
        ("space.channels=[[]]", "channels of stage 1"),
        (
            "data.flip=true",
            ": data.flip=true mirrors digits, which changes what they mean; leave it false for mnist5k.",
        ),
        ("data.sise=3", ": unknown key data.sise; did you mean size?"),
        (
            "data.rotate=3",
            ": unknown key data.rotate; it is for cityscapes, segmentation_folder; known here are size, train_images",
        ),
        ("data.colour=3", ": unknown key data.colour; known are size, train_images, validation, pad, flip."),
        ("data.size=2", ": data.size=2: should be greater than or equal to 4."),
        ("data=3", ": data=3: should be a mapping of keys to values."),
        ("data.name=cifar11", ": data.name='cifar11' must be one of cifar10, cifar100, cityscapes"),
        ("data.name=nowhere.sets:Rings", ": data: nowhere.sets:Rings cannot be imported (No module named 'nowhere'"),
        ("name=../up", "name='../up'"),
        ("training", "training"),
    ],
)
def test_a_wrong_study_names_the_key_the_value_and_the_rule(tiny: Path, override: str, message: str) -> None:
    with pytest.raises(StudyError) as error:
        read_study(tiny, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.yaml does not exist"):
        read_study(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(StudyError, match=r"broken\.yaml is not valid YAML"):
        read_study(broken)
    broken.write_text("- 1\n- 2\n")
    with pytest.raises(StudyError, match=r"broken\.yaml must be a mapping"):
        read_study(broken)


def test_limits_that_nothing_keeps_are_found_before_the_search(tiny: Path) -> None:
    with pytest.raises(
        StudyError, match=r"none of 200 random .* max_params=400; the least seen are params=426 and macs="
    ):
        reference_point(read_study(tiny, ["limits.max_params=400"]), IMAGE)


@pytest.mark.parametrize("limits", ["limits.max_params=10", "limits.max_macs=10"])
def test_limits_far_below_what_the_space_offers_are_found_with_few_networks(tiny: Path, limits: str) -> None:
    with pytest.raises(
        StudyError, match=rf"none of (5|17) random networks .* {limits[7:]}; the least seen are params="
    ):
        reference_point(read_study(tiny, [limits]), IMAGE)


def test_limits_on_listed_networks_are_told_of_all_of_them(tiny: Path) -> None:
    tiny.write_text("space: {name: fixed, networks: {a: {build: resnet}, b: {build: resnet, depth: 101}}}")
    with pytest.raises(StudyError, match=r"none of 2 networks of the space keeps the limits max_params=1,000; .*=23,"):
        reference_point(read_study(tiny, ["limits.max_params=1000"]), (3, (64, 64), 10))


def test_a_space_that_does_not_fit_the_images_is_found_before_the_search(tiny: Path) -> None:
    study = read_study(tiny, ["space.partitions=[9]", "space.kinds=[repmlp]"])
    with pytest.raises(StudyError, match=r"no network for 8x8 images: stage1\.partition: none of 9 fits"):
        reference_point(study, IMAGE)


def test_the_reference_is_chance_and_the_limits(tiny: Path) -> None:
    overrides = ["objectives=[accuracy,throughput,params,macs]", "limits={max_params: 90000, min_throughput: 5}"]
    point = reference_point(read_study(tiny, overrides), IMAGE)
    drawn = [costs["macs"] for _, (_, costs) in zip(range(16), random_networks(read_study(tiny), IMAGE))]
    assert point == {"accuracy": 10.0, "throughput": 5.0, "params": 90000, "macs": max(drawn)}


@given(st.integers(0, 10_000), st.tuples(st.integers(9, 33), st.integers(9, 33)))
@settings(max_examples=40, deadline=None)
def test_every_suggestion_builds_and_is_canonical(seed: int, size: tuple[int, int]) -> None:
    space = CifarMLPSpace(
        channels=((4, 6), (6, 12)), partitions=(2, (4, 3), 9), kernels=((), (1, 3), ((1, 3), 5)), reductions=(0, 1, 2)
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    config = space.suggest(trial, 3, size, 10)
    build(config)
    assert config == config.canonical()


def test_a_plain_stage_has_no_parameters_of_repmlp() -> None:
    space = CifarMLPSpace(channels=((4, 8),), kinds=("conv",))
    trial = optuna.create_study().ask()
    space.suggest(trial, 3, (16, 16), 10)
    assert set(trial.params) == {"stage1.channels", "stage1.blocks"}


def test_values_that_do_not_fit_are_not_offered() -> None:
    space = CifarMLPSpace(channels=((6,),), kinds=("repmlp",), partitions=(7, 28), groups=(1, 2, 4, 6), blocks=(1,))
    trial = optuna.create_study().ask()
    space.suggest(trial, 3, (14, 14), 10)
    choices = trial.distributions["stage1.groups of 1, 2, 6"].choices
    assert choices == (1, 2, 6)
    assert "stage1.partition" not in trial.params


def test_a_space_without_a_fitting_value_says_so() -> None:
    with pytest.raises(ValueError, match=r"stage1\.partition: none of 28 fits"):
        CifarMLPSpace(kinds=("repmlp",), partitions=(28,)).suggest(optuna.create_study().ask(), 3, (14, 14), 10)


def test_mixup_is_refused_where_labels_are_not_classes() -> None:
    with pytest.raises(StudyError, match=r"training\.mixup=0\.2 is for classification"):
        read_study(Path("studies/camvid.yaml"), ["training.mixup=0.2"])


def test_a_batch_that_its_workers_cannot_share_is_refused(tiny: Path) -> None:
    with pytest.raises(StudyError, match=r"training\.batch=25 cannot be shared evenly by resources\.workers=2.*as 24"):
        read_study(tiny, ["resources.workers=2"])
