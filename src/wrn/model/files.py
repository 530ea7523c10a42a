"""The model directory: what training writes, and what evaluation, prediction and serving read.

    model.safetensors   the weights, float32
    model.json          everything needed to use them: architecture, normalisation, class names, metrics, configuration

Both are plain data: reading them executes no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from wrn.config.architecture import Architecture
from wrn.errors import ModelError
from wrn.filesystem import is_dir, is_file
from wrn.model.wide_resnet import WideResNet
from wrn.strict_json import to_json, with_printable_text
from wrn.tensors import flush, open_tensors, save_tensors

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1
"""Increased whenever older versions could no longer read model.json."""


@dataclass(frozen=True)
class ModelInfo:
    """The contents of model.json.

    mean, std: per channel, of images scaled to 0..1.
    dataset: the name of the data set that the model was trained on (`synthetic` is not CIFAR-100).
    metrics: the scores on the test split, `top1` and `top5` as fractions, with `dataset`, `split` and `images`.
    config: the resolved configuration, plain values only.
    provenance: versions, hardware and time of training.
    """

    architecture: Architecture
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]
    superclass_of: tuple[int, ...]
    dataset: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def save_model(directory: Path, model: WideResNet, info: ModelInfo) -> None:
    """Write the model directory. No file is ever half-written, and no description accompanies another model's weights.

    The old description is removed before the weights change: an interruption between the two leaves a directory without
    a description, which `load_model` refuses.

    Raises ModelError if the directory cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    text = to_json({"format": FORMAT, **asdict(info)}, indent=2) + "\n"
    weights, description = directory / WEIGHTS, directory / DESCRIPTION
    new_weights, new_description = (path.with_name(f".{path.name}.tmp") for path in (weights, description))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_tensors(new_weights, tensors, {"format": "pt"})
        new_description.write_text(text, encoding="utf-8")
        for path in (new_weights, new_description):
            flush(path)
        # Flush each change before the next: a power cut must not undo an earlier one and keep a later one.
        description.unlink(missing_ok=True)
        flush(directory)
        new_weights.replace(weights)
        flush(directory)
        new_description.replace(description)
        flush(directory)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{directory}: the model cannot be written ({error}); free space or give --model-dir"
        ) from None
    finally:
        for path in (new_weights, new_description):  # left over if something went wrong
            with suppress(OSError):
                path.unlink(missing_ok=True)


def load_model(directory: Path) -> tuple[WideResNet, ModelInfo]:
    """The network in evaluation mode, on the CPU, and its description.

    Raises ModelError, naming the file and the fix, if something is missing, damaged or does not fit.
    """
    info = read_info(directory)
    try:
        with open_tensors(directory / WEIGHTS) as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{directory / WEIGHTS}: cannot be read ({error}); copy or train the model again") from None
    shape = info.architecture
    named, supers = len(info.classes), len(info.superclass_of)
    if named != shape.num_classes or supers not in (0, named):
        raise ModelError(
            f"{directory / DESCRIPTION}: is damaged ({named} class names and {supers} superclasses for "
            f"{shape.num_classes} classes); copy or train the model again"
        )
    model = WideResNet.of(shape)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise ModelError(
            f"{directory / WEIGHTS}: these are not the weights of the {shape} that {DESCRIPTION} describes; "
            "use both files from the same run"
        ) from None
    return model.to(memory_format=torch.channels_last).eval(), info  # type: ignore[call-overload]


def read_info(directory: Path) -> ModelInfo:
    """Only the description, without the weights. Raises ModelError as `load_model` does."""
    path = directory / DESCRIPTION
    try:
        if not is_dir(directory):
            raise ModelError(f"{directory}: no such directory; give the model/ folder of a run as --model-dir")
        if not is_file(path):
            inside = directory / "model" / DESCRIPTION
            hint = f"give {inside.parent}" if is_file(inside) else "give the model/ folder of a finished run"
            raise ModelError(f"{directory}: contains no {DESCRIPTION}; {hint} as --model-dir")
    except OSError as error:
        raise ModelError(f"{directory}: cannot be read ({error.strerror}); give another --model-dir") from None
    try:
        values = with_printable_text(json.loads(path.read_text(encoding="utf-8")))
        version = values.pop("format")
        if version != FORMAT:
            raise ModelError(f"{path}: has format {version}, but this wrn reads {FORMAT}; install the matching version")
        return TypeAdapter(ModelInfo).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: is damaged ({where}: {first['msg']}); copy or train the model again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is damaged ({error}); copy or train the model again") from None
