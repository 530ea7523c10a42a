"""Where files are, given the configuration and the environment.

On SageMaker everything lives under /opt/ml (or $SAGEMAKER_BASE_DIR) and the toolkit adds SM_* variables; a job
started by wrn's own entry point has the folders but not the variables. Elsewhere everything is in the run directory.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wrn.config.schema import Config
from wrn.errors import ConfigError
from wrn.filesystem import exists, is_dir, is_file, user_path

TRAINING_CHANNELS = ("training", "train")
"""Input channels that may contain the data set, in this order."""


@dataclass(frozen=True)
class RunPaths:
    """Every path that a run reads or writes.

    data_dir: the folder with the data, if known; otherwise `search` is tried in order.
    search: folders that may contain the data.
    run: the folder of history.jsonl and config.yaml.
    """

    data_dir: Path | None
    search: tuple[Path, ...]
    run: Path
    model: Path
    checkpoints: Path

    @property
    def history(self) -> Path:
        return self.run / "history.jsonl"

    @property
    def config(self) -> Path:
        return self.run / "config.yaml"


def run_paths(config: Config, recipe: str, environ: Mapping[str, str] | None = None) -> RunPaths:
    """The paths for this configuration in this environment (`os.environ` unless given). Creates nothing."""
    environ = os.environ if environ is None else environ
    base = sagemaker_base(environ)
    search = data_search(environ)
    if base is None:
        run = config.output_dir or new_run_dir(recipe)
        return RunPaths(
            data_dir=config.data_dir,
            search=search,
            run=run,
            model=config.model_dir or run / "model",
            checkpoints=config.checkpoint_dir or run / "checkpoints",
        )
    return RunPaths(
        data_dir=config.data_dir or _channel(base, environ),
        search=search,
        run=config.output_dir or _variable("SM_OUTPUT_DATA_DIR", environ) or base / "output/data",
        model=config.model_dir or _variable("SM_MODEL_DIR", environ) or base / "model",
        checkpoints=config.checkpoint_dir or base / "checkpoints",
    )


def data_search(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """$WRN_DATA_DIR, then ./data."""
    given = _variable("WRN_DATA_DIR", os.environ if environ is None else environ)
    return (*([given] if given else []), Path("data"))


def sagemaker_base(environ: Mapping[str, str]) -> Path | None:
    """/opt/ml (or its replacement) inside a training container, else None."""
    base = _variable("SAGEMAKER_BASE_DIR", environ) or Path("/opt/ml")
    with suppress(OSError):  # on somebody's machine, /opt/ml may be somebody else's
        if "SM_MODEL_DIR" in environ or is_file(base / "input/config/hyperparameters.json"):
            return base
    return None


def _variable(name: str, environ: Mapping[str, str]) -> Path | None:
    """The path in an environment variable; None if it is unset or empty. Raises ConfigError if it cannot be reached."""
    text = environ.get(name)
    try:
        return user_path(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{name}: {text!r} is not allowed; {error}") from None


def _channel(base: Path, environ: Mapping[str, str]) -> Path | None:
    for channel in TRAINING_CHANNELS:
        path = _variable(f"SM_CHANNEL_{channel.upper()}", environ) or base / "input/data" / channel
        if is_dir(path):
            return path
    return None


def new_run_dir(recipe: str) -> Path:
    """runs/<time>-<recipe>, with a number appended if two runs start in the same second."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}"
    path = Path("runs", stem)
    number = 2
    while exists(path):
        path = Path("runs", f"{stem}-{number}")
        number += 1
    return path


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where things are kept that can be made again: $WRN_CACHE_DIR, or the user's cache folder.

    A user without a home, as a container may have, gets one in the temporary folder.
    """
    from platformdirs import user_cache_path

    given = _variable("WRN_CACHE_DIR", os.environ if environ is None else environ)
    if given is not None:
        return given
    try:
        folder = user_cache_path("wrn")
    except RuntimeError:
        return _temporary_cache()
    return folder if folder.is_absolute() else _temporary_cache()  # older platformdirs: "~/.cache" as it is


@cache
def _temporary_cache() -> Path:
    """The user's own, as code is loaded from there: a name that somebody else may have taken is not trusted."""
    folder = Path(tempfile.gettempdir(), f"wrn-{os.getuid()}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="wrn-"))


def data_cache_dirs(near: Path, environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Where decoded images are kept, the first that can be written: beside the data unless $WRN_CACHE_DIR is set."""
    environ = os.environ if environ is None else environ
    return (*([] if environ.get("WRN_CACHE_DIR") else [near / ".wrn-cache"]), cache_dir(environ))


def compile_cache() -> Path:
    """Where compiled code is kept between runs, unless torch's own variable names another folder."""
    return cache_dir() / "compiled"


def failure_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """Where SageMaker looks for the failure reason of a job; None elsewhere."""
    base = sagemaker_base(os.environ if environ is None else environ)
    return None if base is None else base / "output/failure"


def aws_region(environ: Mapping[str, str] | None = None) -> str | None:
    """The AWS region set in the environment; AWS_REGION takes precedence over AWS_DEFAULT_REGION, as in AWS's tools."""
    environ = os.environ if environ is None else environ
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
