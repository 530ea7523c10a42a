"""The metrics that SageMaker extracts from a job's output for CloudWatch.

Each comes from the plain epoch line of `wrn train`, as in
`dataset=cifar100 epoch=3 epochs=100 train_loss=2.1000 ... lr=0.0998 ... images_per_s=2875.1000 mfu=0.4011`;
a metric has the name of its field, which is also its name in history.jsonl.
"""

from __future__ import annotations

FIELDS = (
    "epoch",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "val_top5",
    "test_loss",
    "test_top1",
    "test_top5",
    "lr",
    "grad_norm",
    "images_per_s",
    "mfu",
    "memory_gb",
)
"""The fields of the epoch line worth plotting."""

NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"

RESUMED = "resumed_from_step"
"""One point each time the job resumes from a checkpoint: their number is the number of interruptions."""


def metric_definitions() -> list[dict[str, str]]:
    """For CreateTrainingJob. Anchored to an epoch line, so that no other text is taken for a metric."""
    lines = [{"Name": name, "Regex": f"dataset=\\S+ (?:\\S+ )*?{name}={NUMBER}(?: |$)"} for name in FIELDS]
    return [*lines, {"Name": RESUMED, "Regex": "resumed from step ([0-9]+) "}]
