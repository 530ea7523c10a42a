"""`wrn config`: the resolved configuration, or every problem with it. Does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wrn.config.files import to_yaml
from wrn.config.flags import Parser, add_config_flags, parse_config
from wrn.config.idle import idle_keys
from wrn.errors import DONE
from wrn.strict_json import to_json


def main(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="wrn config",
        description="Print the configuration that `wrn train` with the same flags would use, as a file for --recipe.",
        allow_abbrev=False,
        usage="wrn config [--json] [--recipe NAME|FILE] [--KEY VALUE ...]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object of values and nothing else")
    add_config_flags(parser)
    arguments = list(arguments)
    resolved = parse_config(parser, arguments)
    sys.stderr.write("".join(f"{line}\n" for line in (*resolved.changes, *idle_keys(resolved))))
    if "--json" in arguments:
        sys.stdout.write(to_json(resolved.config.model_dump(mode="json"), indent=2) + "\n")
    else:
        sys.stdout.write(to_yaml(resolved.config, resolved.origins))
    return DONE
