"""A whole run, from configuration to model directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wrn.config import Config, Resolved, RunPaths
from wrn.config.adapt import change, instead
from wrn.config.files import to_yaml
from wrn.config.idle import idle_keys
from wrn.config.stages import parse_stages
from wrn.data.dataset import Dataset, Split
from wrn.distributed.environment import Place, place
from wrn.distributed.processes import Processes, join
from wrn.errors import ConfigError, DataError, TrainingError
from wrn.evaluation.evaluate import Evaluation
from wrn.kernels import pick_kernels
from wrn.model import ModelInfo, Precision, pick_device, pick_precision, save_model, tune_cpu
from wrn.model.machine import unusable_driver
from wrn.strict_json import to_json
from wrn.text import duration
from wrn.trackers.console import make_reporter
from wrn.trackers.events import Reporter, SilentReporter
from wrn.trackers.tensorboard import TensorBoardReporter, check_tensorboard
from wrn.training.budget import as_chosen_before, within_budget
from wrn.training.checkpoint import Checkpoint, CheckpointStore, aside_line
from wrn.training.folders import (
    folder_of_torchrun,
    has_own_folder,
    held,
    remove_empty,
    set_results_aside,
    writable_paths,
)
from wrn.training.machine import choose_kernels, device_name, provenance
from wrn.training.parts import build_model, load_batches, load_data
from wrn.training.peak import peak_flops
from wrn.training.resume import SCALED_KEYS, as_begun, check_configuration, check_data, find_checkpoint
from wrn.training.schedule import make_schedule
from wrn.training.speed import long_run
from wrn.training.step import out_of_memory
from wrn.training.stop import StopSignal
from wrn.training.trainer import Trainer

SETTLED = {"scale_lr": "none", "budget_minutes": 0.0, "budget_epochs": 0}
"""Keys that take effect before the first step; the resulting rates and epochs are in other keys. A run saves its
configuration with these values, so that repeating it does not scale the rates again."""


@dataclass(frozen=True)
class Result:
    """A finished run. `scores` are those on the test split.

    seconds: total of this start. training_seconds: of the steps, including those of earlier starts.
    """

    dataset: str
    run: Path
    model: Path
    scores: Evaluation
    seconds: float
    training_seconds: float
    resumed: bool
    took_steps: bool


def train(resolved: Resolved, stop: StopSignal) -> Result:
    """Train what the configuration describes, or resume an earlier run of it.

    stop: inside its `with` block.
    Raises a WrnError for everything that the user can fix; Interrupted when asked to stop.
    """
    started = time.perf_counter()
    here = place()
    lines = [*resolved.changes, *idle_keys(resolved)]
    config = for_processes(resolved.config, here, lines.append)
    if config.tensorboard:
        check_tensorboard()
    tune_cpu()
    choose_kernels(config.deterministic)
    device = pick_device(config.device)
    if device.type == "cuda" and here.world_size > 1:
        device = torch.device("cuda", here.local_rank)
        torch.cuda.set_device(device)
    processes = join(here, device)
    stages = parse_stages(config.resolutions)
    reporter: Reporter = make_reporter(config.progress, stages) if processes.is_first else SilentReporter()
    try:
        for line in lines:
            reporter.note(line)
        with processes.watched(), ExitStack() as locks:
            new: list[Path] = []
            try:
                paths = processes.first_does(lambda: writable_paths(config, resolved.recipe, new))
                if processes.is_first:
                    locks.enter_context(held((paths.run, paths.checkpoints), reporter.note))
                if config.tensorboard and processes.is_first:
                    reporter = TensorBoardReporter(reporter, paths.run / "tensorboard")
                trainer, dataset, precision = prepare(config, paths, reporter, processes, device)
            except Exception:
                remove_empty(new)
                raise
            stop.there_is_work = True
            trainer.run(stop)
            result = finish(paths, trainer, dataset, precision, reporter, processes, started)
        processes.close()
        return result
    except Exception as error:
        processes.failed(error)
        if isinstance(error, RuntimeError) and out_of_memory(error):
            # Not in a forward or backward pass, which would have been retried with fewer images.
            raise TrainingError(
                f"out of memory: {str(error).splitlines()[0]}; give a smaller --batch-size or network, or stop other "
                "programs that use the device"
            ) from error
        raise
    finally:
        reporter.close()


def for_processes(config: Config, here: Place, on_message: Callable[[str], None] = lambda line: None) -> Config:
    """The configuration of all processes together; defaults that need a single process adapt.

    on_message: receives a line for each that does. Raises ConfigError for given values that need a single process.
    """
    if here.may_restart and has_own_folder(config):
        problem = "output_dir: is unset, but a run restarted by torchrun has to find it; give --output-dir"
        if (folder := folder_of_torchrun()) is None:
            raise ConfigError(problem)
        config = instead(config, "output_dir", folder, "torchrun may restart this run", problem, on_message)
    if here.world_size == 1:
        return config
    if here.may_restart and config.resume != "auto":
        raise ConfigError(
            f"resume: with {config.resume}, each restart by torchrun would start from there again; give --resume auto, "
            "or torchrun --max-restarts 0"
        )
    several = f"there are {here.world_size} processes"
    if config.device.startswith("cuda:"):
        problem = f"device: {config.device} is one GPU; give --device cuda for several processes"
        config = instead(config, "device", "cuda", several, problem, on_message)
    if config.compile == "graphs":
        problem = "compile: graphs works with one process only; give --compile true"
        config = instead(config, "compile", True, several, problem, on_message)
    if pick_device(config.device).type == "mps":
        problem = "processes: MPS works with one process only; give --device cpu"
        config = instead(config, "device", "cpu", several, problem, on_message)
    if config.sync_bn and pick_device(config.device).type != "cuda":
        problem = "sync_bn: needs GPUs; omit it"
        config = instead(config, "sync_bn", False, "there is no GPU", problem, on_message)
    # It waits for all processes in every forward pass, whose number may differ when a batch is split.
    problem = "sync_bn: works with whole batches only; omit --sam-rho and --micro-batch"
    whole = {"sam_rho": 0.0, "micro_batch": "auto"}
    for key, value in whole.items():
        if config.sync_bn and getattr(config, key) != value:
            if "sync_bn" in config.given:
                config = instead(config, key, value, "sync_bn works with whole batches only", problem, on_message)
            else:
                config = instead(config, "sync_bn", False, f"{key} splits batches", problem, on_message)
    if config.scale_lr == "none":
        return config
    # The linear scaling rule (arXiv:1706.02677): the same warm-up, with rates proportional to the batch.
    return config.adapted(**{key: getattr(config, key) * here.world_size for key in SCALED_KEYS})


def prepare(
    config: Config, paths: RunPaths, reporter: Reporter, processes: Processes, device: torch.device
) -> tuple[Trainer, Dataset, Precision]:
    """Everything before the first step: precision, data, network, and the checkpoint to resume from."""
    config, checkpoint = find_start(config, paths, reporter, processes)
    precision = pick_precision(device, amp=config.amp, amp_dtype=config.amp_dtype)
    if config.device == "auto" and (reason := unusable_driver()) is not None:
        reporter.note(
            f"training on the CPU: torch cannot use this machine's NVIDIA GPU ({reason}); install a torch built for "
            "this driver, or give --device cpu"
        )
    kernels = pick_kernels(device, config.cpu_kernels)
    if config.cpu_kernels and device.type == "cpu" and not kernels.compiled:
        reporter.note(
            "using torch's kernels, which are slower: wrn's own need Linux, a C++ compiler and a writable cache folder"
        )
    elif kernels.compiled and config.compile:
        reporter.note("compile: on a CPU, it gains nothing on top of wrn's own kernels; omit --compile")
    config, dataset, validation = find_data(config, checkpoint, paths, reporter, processes)
    loader = load_batches(config, dataset, device, processes.place)
    if config.budget_minutes and checkpoint is None:
        first = config
        config, line = processes.first_does(
            lambda: within_budget(first, build_model(first, dataset, device), dataset, loader, precision)
        )
        reporter.note(line)
        loader = load_batches(config, dataset, device, processes.place)  # resolutions depend on the epochs
    config = config.model_copy(update=SETTLED)
    model = build_model(config, dataset, device)
    if config.sync_bn and processes.place.world_size > 1:
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    peak, peak_source = peak_flops(precision)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    number = processes.place.world_size
    reporter.note(
        f"{model.architecture}, {parameters:,} parameters, on {f'{number} x ' if number > 1 else ''}"
        f"{device_name(device)}; {precision.name} ({precision.reason}); peak {peak / 1e12:.3g} TFLOP/s ({peak_source})"
    )
    trainer = Trainer(
        config=config,
        paths=paths,
        dataset=dataset,
        validation=validation,
        loader=loader,
        model=model,
        precision=precision,
        peak=peak * number,
        reporter=reporter,
        processes=processes,
    )
    if checkpoint is None:
        if (days := long_run(config, model.architecture, trainer.schedule, peak * number)) is not None:
            reporter.note(days)
    else:
        trainer.restore(checkpoint)
        age, epoch = time.time() - checkpoint.state["time"], len(checkpoint.state["history"])
        reporter.note(f"resumed from step {checkpoint.step} (epoch {epoch}), {duration(age)} ago: {checkpoint.path}")
        _note_jump_of_rate(trainer, checkpoint, reporter)
    if processes.is_first:
        if checkpoint is None and (moved := set_results_aside(paths.run)) is not None:
            reporter.note(moved)
        paths.config.write_text(to_yaml(config), encoding="utf-8")
    return trainer, dataset, precision


def _note_jump_of_rate(trainer: Trainer, checkpoint: Checkpoint, reporter: Reporter) -> None:
    """With more epochs than before, the schedule changes, and the learning rate may jump on resume."""
    keys = ("epochs", "warmup_epochs", "milestones")
    earlier = trainer.config.model_copy(update={key: checkpoint.state["config"][key] for key in keys})
    before, now = earlier.epochs, trainer.config.epochs
    if now > before:
        steps_per_epoch = trainer.schedule.total_steps // now
        old = make_schedule(earlier, steps_per_epoch).lr_at(max(0, checkpoint.step - 1))
        new = trainer.schedule.lr_at(checkpoint.step)
        reporter.note(f"epochs raised from {before} to {now}: the learning rate jumps from {old:.3g} to {new:.3g}")


def find_data(
    config: Config, checkpoint: Checkpoint | None, paths: RunPaths, reporter: Reporter, processes: Processes
) -> tuple[Config, Dataset, Split | None]:
    """The data: the same in all processes and as before an interruption, even if `dataset: auto` would now differ.
    And the configuration, whose defaults fit the data.

    The first process finds or downloads it, and the others use what it found.
    Raises CheckpointError if the run began with other data, and DataError if this process has other data than the
    first.
    """
    before = checkpoint.state["data"] if checkpoint is not None else None
    name = str(before["name"]) if before and config.dataset == "auto" else config.dataset
    size = processes.place.world_size
    found: list[tuple[Config, Dataset, Split | None]] = []

    def look() -> dict[str, Any]:
        found.append(load_data(config, name, paths, reporter, size))
        return found[0][1].identity()

    first = processes.first_does(look)
    fitted, dataset, validation = found[0] if found else load_data(config, first["name"], paths, reporter, size)
    if (identity := dataset.identity()) != first:
        raise DataError(
            f"{dataset.origin}: is not the data of the first process ({identity['train']} training images here, "
            f"{first['train']} there); give every host the same files"
        )
    if before and checkpoint is not None:
        check_data(config, before, dataset.identity(), checkpoint.path)
    processes.wait()
    return fitted, dataset, validation


def find_start(
    config: Config, paths: RunPaths, reporter: Reporter, processes: Processes
) -> tuple[Config, Checkpoint | None]:
    """The checkpoint to resume from, if any, and the configuration with the epochs that its budget chose.

    The note about resuming comes later, when nothing can fail any more.
    Raises CheckpointError if the requested checkpoint does not fit.
    """
    store = CheckpointStore(paths.checkpoints, config.keep, reporter.note)
    # The first process decides, as each host may have its own folders.
    found = processes.first_does(lambda: find_checkpoint(config, store))
    if found is None:
        reporter.note(f"fresh start: no checkpoint in {paths.checkpoints}")
        return config, None
    path, checkpoint = found
    lines = []
    if config.budget_minutes:
        config, line = as_chosen_before(config, checkpoint)
        lines.append(line)
    begun = as_begun(config, checkpoint)
    lines += [change(key, getattr(config, key), value, "when the run began") for key, value in begun.items()]
    config = config.model_copy(update=begun)
    check_configuration(config, checkpoint, path)
    for line in lines:
        reporter.note(line)
    return config, checkpoint


def finish(
    paths: RunPaths,
    trainer: Trainer,
    dataset: Dataset,
    precision: Precision,
    reporter: Reporter,
    processes: Processes,
    started: float,
) -> Result:
    """Score the final model on the test split and write the model directory."""
    if trainer.selection.stop_reason:
        reporter.note(f"stopped early: {trainer.selection.stop_reason}")
    model = trainer.final_model
    info = ModelInfo(
        architecture=model.architecture,
        mean=dataset.mean,
        std=dataset.std,
        classes=dataset.classes,
        superclasses=dataset.superclasses,
        superclass_of=dataset.superclass_of,
        dataset=dataset.name,
        config=trainer.config.model_dump(mode="json"),
        provenance=provenance(precision, model.kernels),
    )
    if trainer.selection.best_epoch:
        last = replace(info, metrics=metrics(dataset, trainer.test_scores()))
        if processes.is_first:
            save_model(paths.run / "model-last", model, last)
        trainer.selection.load_best(model)
        reporter.note(f"using the model of epoch {trainer.selection.best_epoch}, the best on the validation split")
        scores = trainer.evaluate(dataset.test)
    else:
        scores = trainer.test_scores()
    figures = metrics(dataset, scores)
    if processes.is_first:
        save_model(paths.model, model, replace(info, metrics=figures))
        if (line := aside_line(paths.checkpoints)) is not None:
            reporter.note(line)
        (paths.run / "metrics.json").write_text(to_json(figures, indent=2) + "\n", encoding="utf-8")
    return Result(
        dataset.name,
        paths.run,
        paths.model,
        scores,
        seconds=time.perf_counter() - started,
        training_seconds=trainer.training_seconds,
        resumed=trainer.resumed,
        took_steps=trainer.took_steps,
    )


def metrics(dataset: Dataset, scores: Evaluation) -> dict[str, Any]:
    """The figures on the test split, with what they were measured on."""
    return {**scores.as_dict(), "dataset": dataset.name, "split": "test"}
