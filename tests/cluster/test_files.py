"""The files of docs/cluster: what can be said of them without a cloud."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from record.files import read_study
from tests.conftest import ROOT

DOCS = ROOT / "docs" / "cluster"


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_ray_up_takes_the_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((DOCS / f"{name}.yaml").read_text())
    validate_config(prepare_config(config))
    types = config["available_node_types"]
    assert config["max_workers"] == types["worker"]["max_workers"]
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0
    with pytest.raises(Exception, match="not_a_key"):
        validate_config(prepare_config({**config, "not_a_key": 1}))


@pytest.mark.parametrize("name", ["aws.yaml", "rayjob.yaml"])
def test_the_command_it_names_is_one(name: str) -> None:
    text = (DOCS / name).read_text().replace("\\\n#", "")
    if name == "rayjob.yaml":
        text = yaml.safe_load(text)["spec"]["entrypoint"]
    words = shlex.split(next(line for line in text.splitlines() if "run_search.py" in line).lstrip("# "))
    given = words[next(i for i, word in enumerate(words) if "studies/" in word) :]
    study = read_study(ROOT / "studies" / Path(given[0]).name, given[1:])
    assert (study.resources.address, study.resources.gpus, study.runs) == ("auto", 1, "s3://BUCKET/runs")


def test_the_job_is_of_the_ray_that_is_tested_and_its_cluster_fits_the_study() -> None:
    job = yaml.safe_load((DOCS / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    (workers,) = cluster["workerGroupSpecs"]
    assert f"resources.concurrent={workers['maxReplicas']} " in job["spec"]["entrypoint"]
    (container,) = workers["template"]["spec"]["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in workers["template"]["spec"]["volumes"]}
    assert f"data.root={mounted['images']} " in job["spec"]["entrypoint"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_image_holds_all_that_the_project_is_made_of() -> None:
    text = (DOCS / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert {*packages, "run_search.py", "analyze.py", "studies", "constraints.txt"} <= {*copied}
    (extras,) = re.findall(r"'\.\[(.*)\]'", text)
    assert {*extras.split(",")} <= {*project["project"]["optional-dependencies"]}
