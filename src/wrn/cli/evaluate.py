"""`wrn evaluate`: score a model directory on the test split of the data set that it was trained on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wrn.cli.report import percent, say, table
from wrn.cli.values import reachable
from wrn.config.flags import Parser
from wrn.config.paths import data_search
from wrn.data.layout import some
from wrn.errors import DONE, DataError, ModelError
from wrn.strict_json import to_json


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="wrn evaluate", description="Score a model directory on the test split.", allow_abbrev=False)
    parser.add_argument("--model-dir", required=True, type=reachable, metavar="D", help="the model/ folder of a run")
    parser.add_argument("--data-dir", type=reachable, metavar="D", help="folder that holds the data [as for wrn train]")
    parser.add_argument(
        "--dataset",
        choices=("cifar100", "cifar10", "folder", "synthetic"),
        help="score on this data set [the one that the model was trained on]",
    )
    parser.add_argument("--skip-broken", action="store_true", help="skip images that cannot be read")
    parser.add_argument("--tta", action="store_true", help="also with test-time augmentation (mirror images)")
    parser.add_argument("--per-class", action="store_true", help="also the top-1 of each class")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps [auto]")
    parser.add_argument("--no-amp", action="store_true", help="compute in fp32")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)

    from wrn.data.sources import open_dataset
    from wrn.evaluation.evaluate import evaluate
    from wrn.kernels import pick_kernels
    from wrn.model import NOT_FINITE, load_model, pick_device, pick_precision, tune_cpu

    model, info = load_model(options.model_dir)
    precision = pick_precision(pick_device(options.device), amp=not options.no_amp)
    tune_cpu()
    model.use_kernels(pick_kernels(precision.device))
    dataset = open_dataset(
        options.dataset or info.dataset,
        data_dir=options.data_dir,
        search=data_search(),
        skip_broken=options.skip_broken or bool(info.config.get("skip_broken")),
        classes=info.classes,
        on_message=say,
    )
    if dataset.name != "folder" and dataset.classes != info.classes:
        fix = "give the data it was trained on as --data-dir"
        if dataset.name != info.dataset:
            fix = f"omit --dataset: it was trained on {info.dataset}"
        raise DataError(f"{options.model_dir}: {difference(info.classes, dataset.classes)}; {fix}")
    result = evaluate(
        model.to(precision.device),
        dataset.test,
        mean=info.mean,
        std=info.std,
        precision=precision,
        superclass_of=info.superclass_of,
        tta=options.tta,
    )
    if not result.finite:
        raise ModelError(f"{options.model_dir}: {NOT_FINITE}")
    scores = result.plain
    if options.json:
        figures = {**result.as_dict(), "dataset": dataset.name, "split": "test"}
        if options.per_class:
            figures["per_class"] = dict(zip(info.classes, scores.per_class, strict=True))
        sys.stdout.write(to_json(figures, indent=2) + "\n")
        return DONE
    rows = [
        ("data", f"{dataset.name}, test split, {scores.images:,} images ({dataset.origin})"),
        ("top-1", percent(scores.top1)),
        ("top-5", percent(scores.top5)),
        ("loss", f"{scores.loss:.4f}"),
        ("ECE", percent(scores.ece)),
    ]
    if scores.superclass is not None:
        rows.append(("superclass", percent(scores.superclass)))
    if result.mirrored is not None:
        rows.append(("top-1, TTA", f"{percent(result.mirrored.top1)} (image and mirror image averaged)"))
    sys.stdout.write(table(rows) + "\n")
    if options.per_class:
        known = [(name, share) for name, share in zip(info.classes, scores.per_class, strict=True) if share is not None]
        ranked = sorted(known, key=lambda pair: pair[1])
        sys.stdout.write("\n" + table([(f"  {name}", percent(share)) for name, share in ranked]) + "\n")
    return DONE


def difference(model: Sequence[str], data: Sequence[str]) -> str:
    """How the classes differ, as in: the model does not know dog, which is in the data."""
    lacks = [name for name in data if name not in model]
    alone = [name for name in model if name not in data]
    parts = [f"does not know {some(lacks)}, which the data has"] if lacks else []
    parts += [f"knows {some(alone)}, which the data lacks"] if alone else []
    return "the model " + (", and ".join(parts) or "has the same classes in a different order")
