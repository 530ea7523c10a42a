"""The training loop."""

from __future__ import annotations

import time
from typing import Any

import torch

from wrn.config import Config, RunPaths
from wrn.data.augment.batch import Batch
from wrn.data.dataset import Dataset, Split
from wrn.data.loader import Loader
from wrn.errors import CheckpointError, Interrupted, TrainingError
from wrn.model import Precision, WideResNet, multiply_adds
from wrn.training.checkpoint import Checkpoint, CheckpointStore
from wrn.training.evaluation import Evaluation, evaluate
from wrn.training.history import Row, append_history, write_history
from wrn.training.machine import peak_memory, versions
from wrn.training.optimizer import Optimizers
from wrn.training.processes import Alone
from wrn.training.reporters import Reporter
from wrn.training.resume import fingerprint
from wrn.training.schedule import make_schedule
from wrn.training.selection import Selection
from wrn.training.step import TrainStep
from wrn.training.stop import StopSignal

STEPS_PER_LOOK = 50
"""Steps between looks at the device for a loss that is not finite: each look waits for it."""


class Trainer:
    """A run from its first step, or from a checkpoint, to its last.

    dataset: `train` is what is trained on, without the validation images; `validation` is None without any.
    peak: FLOP/s of all devices together, for MFU.
    processes: those that train together. All of them do the same at the same step; the first writes and reports.
    """

    def __init__(
        self,
        config: Config,
        paths: RunPaths,
        dataset: Dataset,
        validation: Split | None,
        loader: Loader,
        model: WideResNet,
        precision: Precision,
        peak: float,
        reporter: Reporter,
        processes: Alone,
    ) -> None:
        self.model = model
        self.schedule = make_schedule(config, loader.steps_per_epoch)
        self.store = CheckpointStore(paths.checkpoints, config.keep, reporter.note)
        self.selection = Selection(
            config.patience, config.target_accuracy, paths.checkpoints, writes=processes.is_first
        )
        self.config = config
        self._paths = paths
        self._dataset = dataset
        self._validation = validation
        self._loader = loader
        self._precision = precision
        self._peak = peak
        self._reporter = reporter
        self._processes = processes
        self._optimizers = Optimizers(config, model)
        self._take = TrainStep(config, model, self._optimizers, precision, self.schedule, reporter.note, processes)
        self._step = 0
        self._history: list[Row] = []
        self._saved_at = self._clock = time.monotonic()
        self._images_timed = self._multiply_adds_timed = 0
        self._side = 0
        self._save_pending = False
        self._final: Evaluation | None = None

    @property
    def final_model(self) -> WideResNet:
        """The network that counts: the averaged one where there is one."""
        return self._take.average.module if self._take.average is not None else self.model

    def run(self, stop: StopSignal) -> None:
        """Train to the end.

        Raises Interrupted when asked to stop (the state is saved), TrainingError when the loss is not finite,
        CheckpointError when no checkpoint can be written, LostProcess when another process is gone.
        """
        with self._processes.watched():
            self._run(stop)

    def _run(self, stop: StopSignal) -> None:
        per_epoch = self._loader.steps_per_epoch
        self._reporter.begin(self.schedule.total_steps, self._step, per_epoch)
        if self._processes.is_first:
            write_history(self._paths.history, self._history)
        self._saved_at = time.monotonic()
        while self._step < self.schedule.total_steps and not self.selection.stop_reason:
            epoch_end = (self._step // per_epoch + 1) * per_epoch
            self._begin_clock()
            for batch in self._loader.batches(self._step, epoch_end):
                if batch.images.shape[-1] != self._side:
                    self._side = batch.images.shape[-1]
                    self._processes.expect_delay()
                self._take(self._step, batch)
                self._reporter.step(self._step, self.schedule.lr_at(self._step), batch.global_size)
                self._step += 1
                self._count(batch)
                if self._step % STEPS_PER_LOOK == 0:
                    self._look()
                if self._step < epoch_end and self._save_now(stop):
                    self._save(stop)
            self._end_epoch()
            self._save_pending = self._save_pending or self._epochs_due()
            if self._save_now(stop):
                self._save(stop)
        self._save(stop, last=True)

    def _end_epoch(self) -> None:
        """Read the meters, evaluate, log, and let the selection judge."""
        totals = self._look()
        epoch = self._step // self._loader.steps_per_epoch
        row: Row = {
            "dataset": self._dataset.name,
            "epoch": epoch,
            "epochs": self.config.epochs,
            "step": self._step,
            "train_loss": totals.loss,
            "train_top1": totals.top1,
            "lr": self.schedule.lr_at(self._step - 1),
            "grad_norm": totals.grad_norm,
            "largest_grad_norm": totals.largest_grad_norm,
            **self._speed(),
        }
        self._take.meters.reset()
        if self._evaluation_due(epoch):
            if self._validation is None:
                # For the log alone: with no validation split the last weights are the model, whatever this says.
                figures = self.evaluate(self._dataset.test)
                self._final = figures if self._step >= self.schedule.total_steps else None
                row |= {f"test_{key}": value for key, value in figures.as_dict().items()}
            else:
                figures = self.evaluate(self._validation)
                row |= {f"val_{key}": value for key, value in figures.as_dict().items()}
                self.selection.judge(figures.plain.top1, epoch, self.final_model)
        self._history.append(row)
        if self._processes.is_first:
            append_history(self._paths.history, row)
        self._reporter.epoch(row)

    def evaluate(self, split: Split) -> Evaluation:
        """Score the network that counts on a split."""
        self._processes.copy_from_first(list(self.final_model.buffers()))  # BN's statistics
        return evaluate(
            self.final_model,
            split,
            mean=self._dataset.mean,
            std=self._dataset.std,
            precision=self._precision,
            superclass_of=self._dataset.superclass_of,
            tta=self.config.tta,
            processes=self._processes,
        )

    @property
    def steps_per_epoch(self) -> int:
        return self._loader.steps_per_epoch

    def test_scores(self) -> Evaluation:
        """The scores of the network that counts on the test split."""
        return self._final or self.evaluate(self._dataset.test)

    def _evaluation_due(self, epoch: int) -> bool:
        every = self.config.eval_epochs
        return (bool(every) and epoch % every == 0) or self._step >= self.schedule.total_steps

    def _epochs_due(self) -> bool:
        every = self.config.checkpoint_epochs
        return bool(every) and (self._step // self._loader.steps_per_epoch) % every == 0

    def _save_now(self, stop: StopSignal) -> bool:
        """Whether to stop or to save by the clock, agreed between all processes: only some get a signal."""
        # A checkpoint that is still being written is not waited for: the next step asks again.
        due = (self._save_pending or self._minutes_due()) and not self.store.busy
        stopping, saving = self._processes.agree(self._step, stop.received is not None, due)
        if stopping and stop.received is None:
            stop.received = "a signal to another process"
        return stopping or saving

    def _minutes_due(self) -> bool:
        every = self.config.checkpoint_minutes
        return bool(every) and time.monotonic() - self._saved_at >= 60 * every

    def _look(self) -> Any:
        """The meters, read. Raises TrainingError when a loss was not finite."""
        totals = self._take.meters.read()
        bad = totals.first_bad_step
        if bad is not None:
            self.store.wait()
            paths = self.store.paths()
            good = f"the last good checkpoint is {paths[0]}" if paths else "there is no checkpoint yet"
            raise TrainingError(
                f"the loss was not finite at step {bad} with learning rate {self.schedule.lr_at(bad):.3g}; {good}. "
                "Give a lower --lr, a longer --warmup-epochs or a --gradient-clip"
            )
        return totals

    # --- the clock -----------------------------------------------------------------------------------------

    def _begin_clock(self) -> None:
        self._clock = time.perf_counter()
        self._images_timed = self._multiply_adds_timed = 0

    def _count(self, batch: Batch) -> None:
        self._images_timed += batch.global_size
        self._multiply_adds_timed += batch.global_size * multiply_adds(self.model.architecture, batch.images.shape[-1])

    def _speed(self) -> Row:
        """Seconds and images/s of the steps since the clock began (the device has been waited for), and MFU."""
        seconds = time.perf_counter() - self._clock
        passes = 2 if self.config.sam_rho else 1
        # A multiply-add is two FLOP; the backward pass costs two forward passes.
        flops = 2 * 3 * passes * self._multiply_adds_timed
        return {
            "images_per_s": self._images_timed / seconds,
            "mfu": flops / seconds / self._peak,
            "memory_gb": peak_memory(self._precision.device) / 1e9,
            "seconds": seconds,
        }

    # --- checkpoints ---------------------------------------------------------------------------------------

    def _save(self, stop: StopSignal, *, last: bool = False) -> None:
        """Checkpoint now. Raises Interrupted afterwards when the run was asked to stop."""
        self._look()  # weights that a non-finite loss has spoilt are never saved
        ending = last or stop.received is not None
        checkpoint = self.checkpoint()
        if self._processes.is_first:
            self.store.save(checkpoint, wait=ending)
        if ending:
            self._processes.wait()
        self._saved_at = time.monotonic()
        self._save_pending = False
        if stop.received and not last:
            raise Interrupted(
                f"stopped by {stop.received} after step {self._step}; saved {self.store.path_of(self._step)}. "
                "Start the same command again to go on"
                + (f", with --output-dir {self._paths.run}" if self.config.output_dir is None else "")
            )

    def checkpoint(self) -> Checkpoint:
        """Everything that decides how the run goes on (see `restore`), of all processes."""
        average = self._take.average
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer/{k}": v for k, v in self._optimizers.state_dict().items()}
        tensors["meters"] = self._take.meters.total()
        if average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
        state = {
            "step": self._step,
            "time": time.time(),
            "config": self.config.model_dump(mode="json"),
            "config_hash": fingerprint(self.config),
            "architecture": str(self.model.architecture),
            "history": self._history,
            "selection": self.selection.state_dict(),
            "scaler": self._take.scaler.state_dict(),
            "micro_batch": self._take.micro_batch,
            "average_updates": average.updates if average is not None else 0,
            "versions": versions(),
        }
        return Checkpoint(tensors, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint. The order of images, the augmentation and dropout follow from the step."""

        def group(prefix: str) -> dict[str, torch.Tensor]:
            return {name[len(prefix) :]: t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}

        state = checkpoint.state
        try:
            self.model.load_state_dict(group("model/"))
            self._optimizers.load_state_dict(group("optimizer/"))
            self._take.meters.restore(checkpoint.tensors["meters"])
            if self._take.average is not None:
                self._take.average.load_state_dict(group("average/") or group("model/"), state["average_updates"])
            self._take.scaler.load_state_dict(state["scaler"])
            self.selection.load_state_dict(state["selection"])
            self._history = list(state["history"])
            if self.config.micro_batch == "auto":
                self._take.micro_batch = min(state["micro_batch"], self.config.batch_size)
            self._step = checkpoint.step
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} does not fit this run ({error}); give another --output-dir"
            ) from None
