"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from wrn.config import Config, RunPaths
from wrn.data.augment.batch import Batch
from wrn.data.dataset import Dataset, Split
from wrn.data.loader import Loader
from wrn.distributed.processes import Processes
from wrn.errors import CheckpointError, Interrupted, TrainingError, WorkerLost
from wrn.evaluation.evaluate import Evaluation, evaluate
from wrn.model import Precision, WideResNet
from wrn.strict_json import without_nan
from wrn.trackers.events import Reporter
from wrn.trackers.history import Row, append_history, write_history
from wrn.training.checkpoint import Checkpoint, CheckpointStore
from wrn.training.machine import versions
from wrn.training.meters import Reading, Totals
from wrn.training.optimizer import Optimizers
from wrn.training.resume import how_to_resume
from wrn.training.save_clock import SaveClock
from wrn.training.schedule import make_schedule
from wrn.training.selection import Selection
from wrn.training.speed import Speedometer
from wrn.training.step import TrainStep, group_of
from wrn.training.stop import StopSignal

LATE_BATCH_S = 15.0
"""How long one of several processes waits for a batch after a stop. torchrun by default kills 30 s after a signal."""

STEPS_PER_CHECK = 50
"""Steps between checks for a non-finite loss or gradient. Each check sees what the one before it requested."""


class Trainer:
    """A run from its first step, or from a checkpoint, to its last.

    dataset: its `train` split excludes the validation images. validation: None if no images are held out.
    peak: FLOP/s of all devices together, for MFU.
    processes: those that train together. All do the same at the same step; only the first writes and reports.
    """

    def __init__(
        self,
        *,
        config: Config,
        paths: RunPaths,
        dataset: Dataset,
        validation: Split | None,
        loader: Loader,
        model: WideResNet,
        precision: Precision,
        peak: float,
        reporter: Reporter,
        processes: Processes,
    ) -> None:
        self.model = model
        self.schedule = make_schedule(config, loader.steps_per_epoch)
        self.store = CheckpointStore(paths.checkpoints, config.keep, reporter.note)
        self.selection = Selection(config.patience, config.target_accuracy)
        self.config = config
        self._paths = paths
        self._dataset = dataset
        self._data = dataset.identity()
        self._validation = validation
        self._loader = loader
        self._precision = precision
        self._reporter = reporter
        self._processes = processes
        optimizers = Optimizers(config, model, precision)
        self._train_step = TrainStep(config, model, optimizers, precision, self.schedule, reporter.note, processes)
        self._step = self._first_step = 0
        self._origin: Path | None = None  # the checkpoint that the run resumed from
        self._history: list[Row] = []
        self._open_row: Row | None = None  # of an epoch whose steps are done but whose evaluation is not
        self._stop = StopSignal()
        self._speed = Speedometer(config, model.architecture, precision.device, peak)
        self._clock = SaveClock(60 * config.checkpoint_minutes)
        self._saved: tuple[int, int] | None = None
        self._side = 0
        self._reading: Reading | None = None
        self._save_pending = False
        self._awaited_since: float | None = None  # a batch, when a stop was requested
        self._final: Evaluation | None = None

    @property
    def final_model(self) -> WideResNet:
        """The network that is evaluated and saved: the averaged one, if there is one."""
        return self._train_step.average.module if self._train_step.average is not None else self.model

    @property
    def resumed(self) -> bool:
        """Whether the run resumed from a checkpoint of an earlier start."""
        return self._first_step > 0

    @property
    def took_steps(self) -> bool:
        """Whether this start of the run took any steps."""
        return self._step > self._first_step

    @property
    def training_seconds(self) -> float:
        """The time of the steps of all epochs, including those of earlier starts of the run."""
        return sum(float(row["seconds"]) for row in self._history)

    def run(self, stop: StopSignal) -> None:
        """Train to the end.

        stop: checked after every step and during evaluations, including those after training.

        Raises Interrupted when asked to stop (the state is saved), TrainingError if the loss, its gradient or an
        evaluation is not finite, CheckpointError if a checkpoint cannot be written.
        """
        self._stop = stop
        per_epoch = self._loader.steps_per_epoch
        self._reporter.begin(self.schedule.total_steps, self._step, per_epoch, self._speed.seconds_before)
        if self._processes.is_first:
            write_history(self._paths.history, self._history)
            self.store.set_aside(beyond=self._step, origin=self._origin)
        self._clock.start()
        # An epoch is over when its row is in the history: a run may resume between last step and evaluation.
        while len(self._history) < self.config.epochs and not self.selection.stop_reason:
            epoch_end = (len(self._history) + 1) * per_epoch
            self._speed.begin()
            for batch in self._batches(epoch_end):
                if batch.images.shape[-1] != self._side:
                    self._side = batch.images.shape[-1]
                    self._processes.expect_delay()
                self._train_step(self._step, batch)
                self._reporter.step(self._step, self.schedule.lr_at(self._step), batch.global_size)
                self._step += 1
                self._speed.count(batch)
                if self._step % STEPS_PER_CHECK == 0:
                    self._check_earlier_losses()
                if self._step < epoch_end:
                    self._save_if_due()
            self._end_epoch()
            self._save_pending = self._save_pending or self._epochs_due()
            self._save_if_due()
        self._save(last=True)

    def _batches(self, end: int) -> Iterator[Batch]:
        """The batches until step `end`. What the run has is saved if a worker process dies."""
        try:
            yield from self._loader.batches(self._step, end, self._stop_while_waiting)
        except WorkerLost as error:
            if self._step and self._processes.place.world_size == 1:  # several could not save together: see below
                self._save(last=True)
            raise WorkerLost(f"{error}. {self._what_is_left()}") from None

    def _stop_while_waiting(self) -> None:
        """Called while a batch is awaited: a stop must not wait for one that may never come. Raises Interrupted."""
        if self._stop.received is None:
            return
        if self._processes.place.world_size == 1:
            self._save(stopping=True)
        # The others are already in the next step, where they wait for this process: all they can do is end.
        self._awaited_since = self._awaited_since or time.monotonic()
        if time.monotonic() - self._awaited_since > LATE_BATCH_S:
            # The first process reports the stop; others report that it is gone.
            told = f"stopped by {self._stop.received} while a batch was awaited. {self._what_is_left()}"
            raise Interrupted(told if self._processes.is_first else "")

    def _what_is_left(self) -> str:
        self.store.wait()
        paths = self.store.paths()
        if not paths:
            return "There is no checkpoint yet"
        return f"The newest checkpoint is {paths[0]}. {how_to_resume(self.config, self._paths.run)}"

    def _end_epoch(self) -> None:
        """Read the meters, evaluate, update the selection, and log."""
        epoch = self._step // self._loader.steps_per_epoch
        row = self._open_row = self._open_row or self._training_row(epoch)
        self._train_step.meters.reset()
        if self._evaluation_due(epoch):
            if self._validation is None:
                # Only for the log: without a validation split the last weights become the model regardless.
                figures = self.evaluate(self._dataset.test)
                self._final = figures if self._step >= self.schedule.total_steps else None
                row |= {f"test_{key}": value for key, value in figures.as_dict().items()}
            else:
                figures = self.evaluate(self._validation)
                row |= {f"val_{key}": value for key, value in figures.as_dict().items()}
                self.selection.judge(figures.plain.top1, epoch, self.final_model)
        self._open_row = None
        self._history.append(row)
        if self._processes.is_first:
            append_history(self._paths.history, row)
        self._reporter.epoch(row)

    def _training_row(self, epoch: int) -> Row:
        """The training figures of an epoch, as a row of the history."""
        totals = self._read_meters()
        return {
            "dataset": self._dataset.name,
            "epoch": epoch,
            "epochs": self.config.epochs,
            "step": self._step,
            "train_loss": totals.loss,
            "train_top1": totals.top1,
            "lr": self.schedule.lr_at(self._step - 1),
            "grad_norm": totals.grad_norm,
            "largest_grad_norm": totals.largest_grad_norm,
            **self._speed.row(self._train_step.compile_seconds),
        }

    def evaluate(self, split: Split) -> Evaluation:
        """Score the final network on a split.

        Raises Interrupted when asked to stop, TrainingError if its outputs are not finite: such scores are neither
        selected nor written.
        """
        self._processes.broadcast_from_first(list(self.final_model.buffers()))  # BN statistics
        figures = evaluate(
            self.final_model,
            split,
            mean=self._dataset.mean,
            std=self._dataset.std,
            precision=self._precision,
            superclass_of=self._dataset.superclass_of,
            tta=self.config.tta,
            processes=self._processes,
            between=self._save_if_due,
        )
        if not figures.finite:
            raise self._diverged(f"after step {self._step} the network's outputs were not finite")
        return figures

    def test_scores(self) -> Evaluation:
        """The scores of the final network on the test split."""
        return self._final or self.evaluate(self._dataset.test)

    def _evaluation_due(self, epoch: int) -> bool:
        every = self.config.eval_epochs
        return (bool(every) and epoch % every == 0) or self._step >= self.schedule.total_steps

    def _epochs_due(self) -> bool:
        every = self.config.checkpoint_epochs
        return bool(every) and (self._step // self._loader.steps_per_epoch) % every == 0

    def _save_if_due(self) -> None:
        """Stop or save if due. All processes decide together, as a signal may reach only some of them.

        Raises Interrupted when asked to stop.
        """
        # Does not wait for a checkpoint that is still being written: the next step asks again.
        due = (self._save_pending or self._clock.due(self.store.write_seconds)) and not self.store.busy
        stopping, saving = self._processes.agree(self._step, self._stop.received is not None, due)
        if stopping and self._stop.received is None:
            self._stop.received = self._processes.stop_reason
        if stopping or saving:
            self._save(stopping=stopping)

    def _check_earlier_losses(self) -> None:
        """Raises TrainingError if a loss or gradient was not finite as of the previous check.

        The values were requested then and have usually arrived, so the device never runs out of work. The host waits at
        most until the device has got that far, which bounds how far it runs ahead.
        """
        before, self._reading = self._reading, self._train_step.meters.begin_reading()
        if before is not None:
            self._checked(before.totals())

    def _read_meters(self) -> Totals:
        """The current meters; waits for the device. Raises TrainingError as `_checked` does."""
        return self._checked(self._train_step.meters.read())

    def _checked(self, totals: Totals) -> Totals:
        """Return the totals. Raises TrainingError if a loss or gradient was not finite."""
        bad = totals.first_bad_step
        if bad is not None:
            rate = self.schedule.lr_at(bad)
            raise self._diverged(f"the loss or its gradient was not finite at step {bad} with learning rate {rate:.3g}")
        return totals

    def _diverged(self, what: str) -> TrainingError:
        """The error for a run whose numbers are not finite any more."""
        self.store.wait()
        paths = self.store.paths()
        good = f"the last checkpoint before that is {paths[0]}" if paths else "there is no checkpoint yet"
        return TrainingError(f"{what}; {good}. Give a lower --lr, a longer --warmup-epochs or a --gradient-clip")

    # --- checkpoints ---------------------------------------------------------------------------------------

    def _save(self, *, stopping: bool = False, last: bool = False) -> None:
        """Save a checkpoint now. With `stopping`, raises Interrupted afterwards."""
        self._read_meters()  # never save weights ruined by a non-finite loss or gradient
        # Only if the state changed: while a finished run is scored, the best epoch's weights may be loaded.
        state = (self._step, len(self._history))
        if state != self._saved:
            checkpoint = self.checkpoint()
            if self._processes.is_first:
                self.store.save(checkpoint, wait=last or stopping)
            # Only if something was saved: otherwise, as during an evaluation, a save must stay due.
            self._clock.saved()
        if last or stopping:
            self.store.wait()  # also for an earlier write of the same state
            self._processes.wait()
        self._saved = state
        self._save_pending = False
        if stopping and not self._processes.is_first:
            raise Interrupted("")  # only the first process reports it
        if stopping:
            raise Interrupted(
                f"stopped by {self._stop.received} after step {self._step}; saved {self.store.path_of(self._step)}. "
                f"{how_to_resume(self.config, self._paths.run)}"
            )

    def checkpoint(self) -> Checkpoint:
        """Everything needed to resume the run (see `restore`), over all processes."""
        tensors, changed = self._train_step.state_dict()
        tensors |= {f"best/{name}": tensor for name, tensor in self.selection.best_weights.items()}
        state = {
            "step": self._step,
            "steps_per_epoch": self._loader.steps_per_epoch,
            "time": time.time(),
            "config": self.config.model_dump(mode="json"),
            "architecture": str(self.model.architecture),
            "data": self._data,
            "history": self._history,
            "open_row": self._open_row,
            "selection": self.selection.state_dict(),
            "speed": self._speed.state_dict(self._train_step.compile_seconds),
            **changed,
            "versions": versions(),
        }
        return Checkpoint(tensors, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint. Image order, augmentation and dropout follow from the step.

        Raises CheckpointError if it does not fit this run.
        """
        state = checkpoint.state
        per_epoch = self._loader.steps_per_epoch
        if (before := state.get("steps_per_epoch", per_epoch)) != per_epoch:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} comes from a run with {before} steps per epoch, not "
                f"{per_epoch}; give the original --batch-size and data, another --output-dir, or --resume never to "
                "start over"
            )
        try:
            self._train_step.load_state_dict(checkpoint.tensors, state)
            self.selection.load_state_dict(state["selection"], group_of(checkpoint.tensors, "best/"))
            self._history = without_nan(state["history"])
            self._open_row = without_nan(state["open_row"])
            self._speed.load_state_dict(state.get("speed", {}))  # missing in older checkpoints
            self._step = self._first_step = checkpoint.step
            self._origin = checkpoint.path
            if checkpoint.path is not None and checkpoint.path.parent == self.store.directory:
                self._saved = (self._step, len(self._history))
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} does not fit this run ({error}); give another --output-dir"
            ) from None
