"""Write the tables of the README files from the records in benchmarks/results: none is typed by hand.

make results
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from result_rows import ROWS, Record, Row, headline, machine, rows_of, workload

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks/results"
Records = dict[str, Record]
"""By their paths as seen from the file that names them."""
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def accuracy_rows(records: Records) -> list[list[str]]:
    """A row for each recipe, machine and number of processes, over all its seeds.

    Raises ValueError if a figure is not of CIFAR-100's whole test split, as the table's heading says.
    """
    runs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, record in records.items():
        if record["benchmark"] == "accuracy":
            processes = record["config"]["processes"]
            together = "" if processes in ("auto", 1) else f", {processes} processes"
            what = f"`{record['recipe']}` ({record['network']}, {record['epochs']} epochs{together})"
            key = (what, machine(record["environment"]))
            runs.setdefault(key, {})[name] = record
    rows = [["recipe", "test top-1", "with TTA", "test top-5", "training time", "on", "records"]]
    for (what, on), of_seeds in sorted(runs.items()):
        metrics = [record["metrics"] for record in of_seeds.values()]
        mirrored = [scores["tta"]["top1"] for scores in metrics if "tta" in scores]
        minutes = [record["training_seconds"] / 60 for record in of_seeds.values()]
        if any((s["dataset"], s["split"], s["images"]) != ("cifar100", "test", 10_000) for s in metrics):
            raise ValueError(f"not of CIFAR-100's whole test split: {', '.join(of_seeds)}")
        by_seed = sorted(of_seeds.items(), key=lambda item: item[1]["seed"])
        links = ", ".join(f"[seed {record['seed']}]({name})" for name, record in by_seed)
        rows.append(
            [
                what,
                f"**{mean_of([scores['top1'] for scores in metrics])}**",
                mean_of(mirrored),
                mean_of([scores["top5"] for scores in metrics]),
                f"{statistics.median(minutes):.1f} min",
                on,
                links,
            ]
        )
    return rows


def mean_of(shares: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    if not shares:
        return ""
    spread = f" ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{statistics.mean(shares):.2%}{spread}"


def headline_rows(records: Records) -> list[list[str]]:
    """A row for the newest record of each benchmark."""
    oldest_first = sorted(measured(records).items(), key=lambda item: item[1]["environment"]["date"])
    newest = {record["benchmark"]: path for path, record in oldest_first}
    chosen = {path: record for path, record in measured(records).items() if path in newest.values()}
    return table_of({path: [headline(record)] for path, record in chosen.items()}, records)


def all_rows(records: Records) -> list[list[str]]:
    """Every figure of each record."""
    return table_of({path: rows_of(record) for path, record in measured(records).items()}, records)


def measured(records: Records) -> Records:
    """Those that have rows, by what was measured."""
    kinds = list(ROWS)
    return dict(
        sorted(
            ((path, record) for path, record in records.items() if record["benchmark"] in kinds),
            key=lambda item: kinds.index(item[1]["benchmark"]),
        )
    )


def table_of(found: dict[str, list[Row]], records: Records) -> list[list[str]]:
    body = [
        [what, figures, machine(records[path]["environment"]), link(path, records[path])]
        for path, of_record in found.items()
        for what, figures in of_record
    ]
    return [["what", "measured", "on", "record"], *body]


def link(path: str, record: Record) -> str:
    environment = record["environment"]
    return f"[{environment['date'][:10]}, commit {environment['commit'][:7]}]({path})"


def markdown(rows: list[list[str]]) -> str:
    if len(rows) == 1:
        return ""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def operation_rows(records: Records) -> list[list[str]]:
    """Kinds of operations by measured stage: each one's share of a step."""
    stages = {
        f"{workload(record)}, {stage['side']} px": stage["operations"]
        for record in records.values()
        if record["benchmark"] == "training_speed"
        for stage in record["stages"]
        if "operations" in stage  # not in records of before it was measured
    }
    totals: dict[str, float] = {}
    for operations in stages.values():
        for kind, share in operations.items():
            totals[kind] = totals.get(kind, 0.0) + share
    kinds = sorted((kind for kind in totals if totals[kind] > 0.001), key=lambda kind: -totals[kind])
    return [["", *stages], *([kind, *(f"{s.get(kind, 0.0):.1%}" for s in stages.values())] for kind in kinds)]


TABLES: dict[str, tuple[Callable[[Records], list[list[str]]], ...]] = {
    "README.md": (accuracy_rows, headline_rows),
    "benchmarks/results/README.md": (all_rows,),
    "benchmarks/README.md": (operation_rows,),
}
"""By file, the tables between its marks."""


def with_tables(file: str) -> str:
    """The text of a file of TABLES with the tables of the records as they are."""
    path = ROOT / file
    paths = sorted(RECORDS.glob("*.json"))
    records = {os.path.relpath(record, path.parent): json.loads(record.read_text()) for record in paths}
    tables = "\n\n".join(table for table in (markdown(rows(records)) for rows in TABLES[file]) if table)
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def main() -> None:
    for file in TABLES:
        (ROOT / file).write_text(with_tables(file), encoding="utf-8")


if __name__ == "__main__":
    main()
