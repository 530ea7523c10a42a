from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from wrn.config.schema import Config, OutputSection, StoppingSection
from wrn.errors import CheckpointError
from wrn.training.checkpoint import Checkpoint, CheckpointStore, write_checkpoint
from wrn.training.resume import FREE_KEYS, check_configuration, find_checkpoint, how_to_resume

HERE = Path("c")


def made_with(**keys: Any) -> Checkpoint:
    config = Config(**keys).model_dump(mode="json")
    return Checkpoint({}, {"step": 5, "time": 0.0, "data": {}, "history": [], "selection": {}, "config": config})


@pytest.mark.parametrize("keys", [{"epochs": 200}, {"patience": 3}, {"output_dir": Path("x")}, {"micro_batch": 8}])
def test_what_may_differ(keys: dict[str, Any]) -> None:
    check_configuration(Config(**keys), made_with(), HERE)


@pytest.mark.parametrize(
    ("keys", "listed"),
    [
        ({"lr": 0.2}, "lr was 0.1 and is 0.2"),
        ({"epochs": 50}, "epochs was 100 and is 50"),
        ({"seed": 1, "batch_size": 64}, "batch_size was 256 and is 64, seed was 0 and is 1"),
    ],
)
def test_what_may_not(keys: dict[str, Any], listed: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_configuration(Config(**keys), made_with(), HERE)
    words = str(caught.value)
    assert all(part in words for part in listed.split(", "))
    check_configuration(Config(**keys, resume_anyway=True), made_with(), HERE)


@pytest.mark.parametrize("keys", [{"batch_size": 64}, {"val_fraction": 0.1}, {"train_images": 100, "lr": 0.2}])
def test_a_change_of_steps_per_epoch_does_not_suggest_resume_anyway(keys: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"another --output-dir, or --resume never to start over$"):
        check_configuration(Config(**keys), made_with(), HERE)


def test_rates_scaled_by_another_number_of_processes() -> None:
    four = made_with(scale_lr="linear", batch_size=512, lr=0.4)
    with pytest.raises(CheckpointError, match=r"use the original number of processes \(scale_lr is linear\)"):
        check_configuration(Config(scale_lr="linear", batch_size=128, lr=0.1), four, HERE)


def test_a_different_network_is_never_accepted() -> None:
    with pytest.raises(CheckpointError, match=r"contains a different network \(depth was 16 and is 28"):
        check_configuration(Config(resume_anyway=True), made_with(depth=16), HERE)


def test_how_a_stopped_run_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", "/nowhere")
    monkeypatch.delenv("SM_MODEL_DIR", raising=False)
    again = "Run the same command again to resume"
    assert how_to_resume(Config(output_dir=HERE), HERE) == again
    assert how_to_resume(Config(resume="never"), HERE) == f"{again}, with --output-dir c --resume auto"
    assert how_to_resume(Config(), Path("my runs/c")) == f"{again}, with --output-dir 'my runs/c'"
    monkeypatch.setenv("SM_MODEL_DIR", "/opt/ml/model")
    job = "Resume with wrn resume JOB (after deploy --local: the same command with --local-dir)"
    assert how_to_resume(Config(), HERE) == job
    assert how_to_resume(Config(resume="never"), HERE) == f"{job}, but only with --resume auto, not never"


def test_free_keys_are_keys() -> None:
    assert set(Config.model_fields) > FREE_KEYS


def test_where_a_checkpoint_is_looked_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = run / "checkpoints/step-00000005.safetensors"
    write_checkpoint(path, made_with())
    store = CheckpointStore(run / "checkpoints", 2, lambda note: None)
    other = CheckpointStore(tmp_path / "other", 2, lambda note: None)
    found = find_checkpoint(Config(), store)
    assert found is not None
    assert found[0] == path
    assert find_checkpoint(Config(resume="never"), store) is None
    assert find_checkpoint(Config(), other) is None
    for place in (run, run / "checkpoints", path):
        found = find_checkpoint(Config(resume=str(place)), other)
        assert found is not None
        assert found[0] == path
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        find_checkpoint(Config(resume="nowhere"), store)
    with pytest.raises(CheckpointError, match="contains no valid checkpoint"):
        find_checkpoint(Config(resume=str(tmp_path)), store)


@pytest.mark.parametrize("lacking", ["config", "data", "time", "history", "selection"])
def test_a_file_of_no_run_is_refused_in_one_sentence(lacking: str, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2, lambda note: None)
    state = {key: value for key, value in made_with().state.items() if key != lacking}
    write_checkpoint(store.path_of(5), Checkpoint({}, state))
    for resume in ("auto", str(store.path_of(5))):
        with pytest.raises(
            CheckpointError, match=f"not the checkpoint of a run .missing or malformed: {lacking}.; give"
        ):
            find_checkpoint(Config(resume=resume), store)


@pytest.mark.parametrize("strange", ["config", "data", "time", "history", "selection"])
@pytest.mark.parametrize("value", [None, "x"], ids=str)
def test_a_malformed_state_is_refused_in_one_sentence(strange: str, value: Any, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2, lambda note: None)
    write_checkpoint(store.path_of(5), Checkpoint({}, {**made_with().state, strange: value}))
    with pytest.raises(CheckpointError, match=f"not the checkpoint of a run .missing or malformed: {strange}.; give"):
        find_checkpoint(Config(), store)


@pytest.mark.parametrize("strange", ["epochs", "warmup_epochs", "milestones"])
@pytest.mark.parametrize("value", [None, []], ids=str)
def test_a_configuration_without_epochs_is_refused_in_one_sentence(strange: str, value: Any, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2, lambda note: None)
    state = made_with().state
    write_checkpoint(store.path_of(5), Checkpoint({}, {**state, "config": {**state["config"], strange: value}}))
    with pytest.raises(CheckpointError, match=f"not the checkpoint of a run .missing or malformed: {strange}.; give"):
        find_checkpoint(Config(), store)


FREE = {
    *("data_dir", "download", "skip_broken", "num_workers"),  # where images come from; the images are checked
    *("device", "compile", "deterministic", "micro_batch", "cpu_kernels"),  # the machine
    *("processes", "scale_lr"),  # the resulting rates are checked
    *OutputSection.model_fields,
    *StoppingSection.model_fields,
}


@pytest.mark.parametrize("key", sorted(Config.model_fields))
def test_every_key_that_changes_what_is_learned_must_stay(key: str) -> None:
    checkpoint = made_with()
    checkpoint.state["config"][key] = 10**6 if key == "epochs" else "another"
    with nullcontext() if key in FREE else pytest.raises(CheckpointError, match=rf"\b{key} was "):
        check_configuration(Config(), checkpoint, HERE)


def test_a_key_that_did_not_exist_yet_is_ignored() -> None:
    """A run resumes after an update of wrn."""
    checkpoint = made_with()
    for key in ("downsampling", "sam_batch"):
        del checkpoint.state["config"][key]
    check_configuration(Config(), checkpoint, HERE)
