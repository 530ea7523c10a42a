"""`wrn predict`: the most likely classes of pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wrn.cli.report import percent, say, table
from wrn.cli.values import reachable, whole
from wrn.config.flags import Parser
from wrn.errors import DONE, DataError
from wrn.strict_json import to_json


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="wrn predict", description="Classify pictures.", allow_abbrev=False)
    parser.add_argument("--model-dir", required=True, type=reachable, metavar="D", help="the model/ folder of a run")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files; resized to 32x32")
    parser.add_argument("--top", type=whole, default=5, metavar="K", help="how many classes to show [5]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON list and nothing else")
    options = parser.parse_args(arguments)

    from wrn.serving.predictor import Predictor

    predictor = Predictor(options.model_dir, device=options.device)
    results = predictor.predict_files(options.images, top=options.top, on_message=say)
    pairs = list(zip(options.images, results, strict=True))
    answers = [(path, result) for path, result in pairs if not isinstance(result, DataError)]
    if options.json:
        listed = [
            {"image": str(path), "predictions": [{"class": name, "probability": p} for name, p in answer]}
            for path, answer in answers
        ]
        sys.stdout.write(to_json(listed, indent=2) + "\n")
    else:
        if predictor.info.dataset == "synthetic":
            sys.stdout.write("NOTE: the model was trained on the synthetic set, not on real images\n")
        for path, answer in answers:
            sys.stdout.write(f"{path}\n" + table([(f"  {name}", percent(p)) for name, p in answer]) + "\n")
    if broken := [str(result) for result in results if isinstance(result, DataError)]:
        raise DataError("\n".join(broken))
    return DONE
