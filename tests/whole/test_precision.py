import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from record.files import read_study
from record.recipe import Recipe
from record.run import open_run
from record.stored import study_values
from record.study import StudyError
from search.journal import Journal
from search.training.precision import native, settled, slow
from search.training.trainer import Trainer
from tests.conftest import ROOT
from tests.driving import engine_of, work_off
from tests.engine.test_training import CONFIG, DATA

WITHOUT_BFLOAT16 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""Settings under which a processor is one that has AVX2 and no more."""


def in_python(code: str, **environment: str) -> str:
    line = [sys.executable, "-c", code]
    env = os.environ | environment
    return subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_auto_is_bfloat16_only_where_the_processor_multiplies_it() -> None:
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    code = "from search.training.precision import native; print(native('cpu'))"
    assert in_python(code, ONEDNN_MAX_CPU_ISA="ALL") == ("bfloat16" if has_units else "float32")
    assert in_python(code, **WITHOUT_BFLOAT16) == "float32"


def test_the_default_study_trains_in_float32_on_a_processor_without_bfloat16(tmp_path: Path) -> None:
    line = [sys.executable, "run_search.py", "studies/default.yaml", f"runs={tmp_path}", "--dry-run"]
    run = subprocess.run(line, env=os.environ | WITHOUT_BFLOAT16, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Training in float32 on the CPU." in run.stderr
    assert "emulates" not in run.stderr


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_products_have_the_recipes_precision_and_weights_stay_float32(precision: str) -> None:
    seen = set()
    trainer = Trainer(CONFIG, DATA, Recipe(epochs=1, batch=50, precision=precision, learning_rate=0.01), 0)
    for module in trainer.model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda *args: seen.add(args[2].dtype))
    images, labels = next(trainer.data.batches(50, torch.Generator()))
    trainer.model.train()
    assert torch.isfinite(trainer.step(images, labels, 0.01))
    assert seen == {getattr(torch, precision)}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_a_float16_loss_is_scaled_and_the_scale_is_in_the_checkpoint(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch=50, precision="float16", learning_rate=0.01, clip=1.0)
    trainer = Trainer(CONFIG, DATA, recipe, 0)
    assert torch.isfinite(torch.tensor(trainer.train_epoch().loss))
    trainer.scaler.update(1024.0)
    trainer.save(tmp_path / "0.pt", {"seed": 0})
    other = Trainer(CONFIG, DATA, recipe, 1)
    assert other.scaler.get_scale() != 1024
    other.restore(tmp_path / "0.pt", {"seed": 0})
    assert other.scaler.get_scale() == 1024


def test_auto_is_settled_where_it_runs_and_a_definite_precision_stays() -> None:
    assert settled("auto", "cpu") == native("cpu")
    assert settled("float16", "cpu") == "float16"
    assert not slow("float32", "cpu")
    assert not slow(native("cpu"), "cpu")


def test_what_auto_became_is_kept_when_the_study_goes_on(tiny: Path) -> None:
    first = engine_of(tiny, "trials=1", "training.precision=float32")
    work_off(first)
    again = engine_of(tiny, "trials=1", "training.precision=auto")
    assert again.study.training.precision == "float32"
    assert again.finished
    assert open_run(str(again.study.folder)).study.training.precision == "float32"
    with pytest.raises(StudyError, match=r"training\.precision is 'float32' there and 'bfloat16' here"):
        engine_of(tiny, "trials=1", "training.precision=bfloat16")


def test_a_new_study_records_what_auto_became_and_gives_it_to_its_trials(tiny: Path) -> None:
    engine = engine_of(tiny, "training.precision=auto")
    assert engine.journal.optuna.user_attrs["study"]["training"]["precision"] == native("cpu")
    assert engine.next().recipe.precision == native("cpu")


def test_a_precision_that_is_slow_where_a_study_goes_on_is_kept_with_a_sentence(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "training.precision=bfloat16"))
    lines = [[str(tiny), "trials=1", "training.precision=auto", *dry] for dry in ([], ["--dry-run"])]
    code = f"""
import json
from tests.driving import searched
print(json.dumps([(run.exit_code, run.stderr) for run in (searched(*line) for line in {lines})]))
"""
    for exit_code, errors in json.loads(in_python(code, **WITHOUT_BFLOAT16)):
        assert exit_code == 0, errors
        assert "Training in bfloat16 on the CPU." in errors
        assert "This processor emulates bfloat16, which is slow" in errors
        assert "takes float32 here" in errors


@pytest.mark.parametrize(("bf16", "right"), [("true", "bfloat16"), ("false", "float32")])
def test_the_former_key_is_an_error_that_says_what_to_write(tiny: Path, bf16: str, right: str) -> None:
    path = tiny.with_name("old.yaml")
    path.write_text(tiny.read_text().replace("precision: float32", f"bf16: {bf16}"))
    with pytest.raises(StudyError, match=rf"training\.bf16={bf16.title()} is now training\.precision; .* {right}"):
        read_study(path)


def test_a_stored_study_is_read_with_the_precision_that_it_had() -> None:
    def precision(training: dict[str, object], **more: object) -> object:
        return study_values({"study": {"name": "a", "training": training}, **more}, [])["training"]

    assert precision({"epochs": 3, "bf16": False}) == {"epochs": 3, "precision": "float32"}
    assert precision({"epochs": 3}) == {"epochs": 3, "precision": "bfloat16"}
    assert precision({"precision": "float16"}, format=2) == {"precision": "float16"}


def test_a_run_of_an_older_version_opens_and_goes_on(tiny: Path, tmp_path: Path) -> None:
    """Recorded at commit 2b404f3, where the recipe had `bf16`."""
    folder = tmp_path / "runs" / "older"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "golden" / "bf16" / "journal.log", folder)
    path = tmp_path / "older.yaml"
    text = tiny.read_text().replace("name: tiny", "name: older").replace(", precision: float32", "")
    path.write_text(text.replace("trials: 5", "trials: 3"))
    before = open_run(str(folder))
    assert before.trials["outcome"].tolist() == ["complete", "stopped", "complete"]
    assert before.study.training.precision == "float32"
    assert engine_of(path).finished
    engine = engine_of(path, "trials=5")
    work_off(engine)
    after = open_run(str(folder)).trials
    assert after.loc[before.trials.index, "accuracy"].equals(before.trials["accuracy"])
    assert engine.trained() == 5
    assert Journal(read_study(path, ["trials=5"])).study.training.precision == "float32"
