"""The exceptions a user can meet: each is one sentence with the fix, and one exit code."""

DONE, BUG, USER, INTERRUPTED = 0, 1, 2, 3
"""Exit codes: done; a bug (traceback shown); the user can fix it; interrupted and resumable."""


class WrnError(Exception):
    """Something the user can fix. The message names what, the value it had, and the fix."""

    exit_code = USER


class ConfigError(WrnError):
    """One or more keys, flags or files of the configuration are wrong (all are listed)."""


class DataError(WrnError):
    """The data set is missing, damaged or does not fit what was asked for."""


class CheckpointError(WrnError):
    """A checkpoint cannot be written, read, or does not belong to this run."""


class ModelError(WrnError):
    """A model cannot be built as asked, or a model directory cannot be used."""


class TrainingError(WrnError):
    """Training cannot continue, for example because the loss is not finite."""


class WorkerLost(TrainingError):
    """A process that prepares batches died or could not be started. It happened between two steps."""


class AwsError(WrnError):
    """Something asked of AWS is not possible as asked, or AWS refused it (all faults are listed)."""


class LostProcess(WrnError):
    """Another process of the run died or hangs; what was saved stays, and the run can be resumed."""

    exit_code = INTERRUPTED


class Interrupted(WrnError):
    """The run was asked to stop; its state is saved and it can be resumed."""

    exit_code = INTERRUPTED
