"""May this configuration resume from that checkpoint?

1. The run uses the newest valid checkpoint in its checkpoint folder (`--resume auto`), the named one, or none.
2. Keys that do not change what is learned may differ. So may `epochs`, upwards, and `micro_batch`, which only changes
   which images share BN statistics (and, with `sam_rho` and no `sam_batch`, a SAM perturbation): it must be possible
   to resume on a smaller GPU.
3. Defaults that adapted to the data or to the epochs stay as the run began (`as_begun`).
4. Any other difference is listed and stops the run, unless `--resume-anyway` is given.
5. So does different data. A run never resumes if the number of steps per epoch differs: its step would mean another
   place in the schedule and in the order of images.
6. A different network is never accepted, as the weights would not fit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wrn.config.paths import sagemaker_base
from wrn.config.schema import Config, OutputSection, StoppingSection
from wrn.errors import CheckpointError
from wrn.filesystem import is_dir, is_file
from wrn.strict_json import to_json
from wrn.text import shell_command
from wrn.training.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from wrn.training.folders import has_own_folder

FREE_KEYS = frozenset(
    {
        *OutputSection.model_fields,
        *StoppingSection.model_fields,
        *("data_dir", "download", "skip_broken", "num_workers", "device", "compile", "deterministic", "micro_batch"),
        *("cpu_kernels", "processes", "scale_lr"),
    }
)
"""Keys that may differ between a checkpoint and the run that resumes from it."""

STATE = {"step": int, "time": int | float, "config": dict, "data": dict, "history": list, "selection": dict}
"""Entries that the state of a run must have, with their JSON types."""

LENGTH = {"epochs": int, "warmup_epochs": int | float, "milestones": str}
"""Configuration keys about the length of a run, with their types: these are carried over or compared by size."""

SCALED_KEYS = ("batch_size", "lr", "min_lr", "muon_lr")
"""Keys that `scale_lr: linear` multiplies by the number of processes."""

EPOCH_KEYS = frozenset({"batch_size", "val_fraction", "train_images"})
"""Keys that change the number of steps per epoch."""

KEPT_KEYS = ("val_fraction", "train_images", "batch_size", "gradient_clip")
"""Defaults that may have been others when a run began: they adapt to the data, or differ in an earlier version."""

SHAPE_KEYS = ("depth", "widen_factor", "activation", "downsampling")


def find_checkpoint(config: Config, store: CheckpointStore) -> tuple[Path, Checkpoint] | None:
    """The checkpoint that `--resume` asks for, if there is one.

    Raises CheckpointError if a named one cannot be used, or if the one found does not belong to a run.
    """
    found = _look_for(config, store)
    if found is None:
        return None
    path, checkpoint = found
    state = checkpoint.state
    if strange := _unusable(STATE, state) or _unusable(LENGTH, state["config"]):
        raise CheckpointError(
            f"{path}: is not the checkpoint of a run (missing or malformed: {', '.join(strange)}); "
            "give another --resume or --output-dir"
        )
    return path, checkpoint


def _unusable(kinds: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    return [name for name, kind in kinds.items() if not isinstance(values.get(name), kind)]


def _look_for(config: Config, store: CheckpointStore) -> tuple[Path, Checkpoint] | None:
    if config.resume == "never":
        return None
    if config.resume == "auto":
        return store.newest()
    path = Path(config.resume)
    try:
        if is_file(path):
            return path, read_checkpoint(path)
        if not is_dir(path):
            raise CheckpointError(f"{path}: no such checkpoint; give --resume auto, never, or an existing path")
        inside = path / "checkpoints"
        found = CheckpointStore(inside if is_dir(inside) else path, 2, store.on_note).newest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give another --resume") from None
    if found is None:
        raise CheckpointError(f"{path}: contains no valid checkpoint; give another --resume, or --resume never")
    return found


def as_begun(config: Config, checkpoint: Checkpoint) -> dict[str, Any]:
    """The values that the run began with, of defaults that are others now: it goes on with those of KEPT_KEYS.

    With more epochs than before, also its warm-up and milestones, which may have adapted to the epochs given then.
    """
    before = checkpoint.state["config"]
    keys = [*KEPT_KEYS, *(("warmup_epochs", "milestones") if config.epochs > before["epochs"] else ())]
    return {
        key: before[key]
        for key in keys
        if key not in config.given and before.get(key) is not None and before[key] != getattr(config, key)
    }


def check_configuration(config: Config, checkpoint: Checkpoint, path: Path) -> None:
    """Raises CheckpointError listing the keys that differ and may not."""
    before: Mapping[str, Any] = checkpoint.state["config"]
    now = json.loads(to_json(config.model_dump(mode="json")))  # as the checkpoint holds it
    changed = [key for key in now if before.get(key, now[key]) != now[key] and key not in FREE_KEYS]
    shape = [key for key in SHAPE_KEYS if key in changed]
    if shape:
        raise CheckpointError(
            f"{path}: contains a different network ({_listed(shape, before, now)}); "
            "give another --output-dir, or --resume never to start over"
        )
    if "epochs" in changed and now["epochs"] > before["epochs"]:
        changed.remove("epochs")
    if changed and not config.resume_anyway:
        scaled = config.scale_lr == "linear" and set(changed) <= set(SCALED_KEYS)
        fix = "use the original number of processes (scale_lr is linear)" if scaled else "use the original values"
        override = "--resume never to start over" if EPOCH_KEYS & set(changed) else "--resume-anyway"
        raise CheckpointError(
            f"{path}: was made with another configuration ({_listed(changed, before, now)}); {fix}, "
            f"another --output-dir, or {override}"
        )


def check_data(config: Config, before: Mapping[str, Any], now: Mapping[str, Any], path: Path | None) -> None:
    """Raises CheckpointError if the data (`Dataset.identity`) is not the data that the run started with."""
    if before == now or config.resume_anyway:
        return
    if before["name"] != now["name"]:
        differs = f"{before['name']}, this is {now['name']}"
    elif (before["train"], before["test"]) != (now["train"], now["test"]):
        differs = f"{before['train']:,} + {before['test']:,} images, here are {now['train']:,} + {now['test']:,}"
    else:
        differs = "the same number of images, but different ones"
    raise CheckpointError(
        f"{path}: was made with other data ({differs}); give the original --dataset and --data-dir, "
        "another --output-dir, or --resume-anyway"
    )


def how_to_resume(config: Config, run: Path) -> str:
    """What to do after a run was stopped. On SageMaker users cannot repeat the command: the platform started it."""
    needs_auto = config.resume != "auto"  # otherwise the same command would ignore what was just saved
    if sagemaker_base(os.environ) is not None:
        unless = f", but only with --resume auto, not {config.resume}" if needs_auto else ""
        return f"Resume with wrn resume JOB (after deploy --local: the same command with --local-dir){unless}"
    flags = [shell_command("--output-dir", run)] if has_own_folder(config) else []
    flags += ["--resume auto"] if needs_auto else []
    return f"Run the same command again to resume{', with ' if flags else ''}{' '.join(flags)}"


def _listed(keys: list[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} was {before.get(key)!r} and is {now[key]!r}" for key in keys)
