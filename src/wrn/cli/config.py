"""`wrn config`: the resolved configuration, or every problem with it. Does not import torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from wrn.cli.report import table
from wrn.config.flags import Parser, add_config_flags, parse_config
from wrn.config.idle import idle_keys
from wrn.config.schema import SECTIONS
from wrn.errors import DONE


def main(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="wrn config",
        description="Print the configuration that `wrn train` with the same flags would use.",
        allow_abbrev=False,
        usage="wrn config [--json] [--recipe NAME|FILE] [--KEY VALUE ...]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object of values and nothing else")
    add_config_flags(parser)
    arguments = list(arguments)
    resolved = parse_config(parser, arguments)
    sys.stderr.write("".join(f"{line}\n" for line in idle_keys(resolved)))
    values = resolved.config.model_dump(mode="json")
    if "--json" in arguments:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
        return DONE
    lines = []
    for section in SECTIONS:
        rows = [
            (f"  {key}", "unset" if values[key] in (None, "") else json.dumps(values[key]), resolved.origins[key])
            for key in section.model_fields
        ]
        lines += [section.__doc__ or section.__name__, table(rows), ""]
    sys.stdout.write("\n".join(lines))
    return DONE
