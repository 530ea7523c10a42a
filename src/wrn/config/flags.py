"""Command-line flags generated from the schema, tolerant of how SageMaker passes hyperparameters.

SageMaker passes every hyperparameter as a string, some of them JSON-quoted: `--amp true`, `--amp True`, `--amp`,
`--no-amp`, `--lr 1e-3` and `--batch-size "256"` (with the quotes) are all accepted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args

from pydantic.fields import FieldInfo

from wrn.config.files import nearest
from wrn.config.layers import Resolved, recipe_names, resolve
from wrn.config.schema import ALIASES, SECTIONS, Config
from wrn.errors import ConfigError
from wrn.wrapping import usage_line


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigErrors, so that they are printed like all others.

    A hand-written usage is wrapped to the width of the terminal, as argparse wraps its own.
    """

    def format_usage(self) -> str:
        with self._narrow():
            return super().format_usage()

    def format_help(self) -> str:
        with self._narrow():
            return super().format_help()

    @contextmanager
    def _narrow(self) -> Iterator[None]:
        usage = self.usage
        if usage is not None:
            self.usage = usage_line(usage, self.prog)
        try:
            yield
        finally:
            self.usage = usage

    def parse_args(  # type: ignore[override]  # argparse's is overloaded on the type of the namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As in argparse, but a mistyped flag is reported before a missing required one, which it may stand for."""
        words = sys.argv[1:] if args is None else list(args)
        self._refuse(self.strays(word for word in takewhile(lambda word: word != "--", words) if word.startswith("--")))
        options, unknown = self.parse_known_args(words, namespace)
        self._refuse(self.strays(unknown))
        return options

    def strays(self, words: Iterable[str]) -> list[str]:
        """One line per unknown flag among the words. Its value is not shown, as it may be a secret."""
        known = [flag.removeprefix("--") for flag in self._option_string_actions]
        lines = []
        for word in words:
            flag = word.partition("=")[0]
            if flag.startswith("-") and flag.strip("-"):
                if flag not in self._option_string_actions:
                    hint = nearest(flag.lstrip("-").replace("_", "-"), known).replace("mean ", "mean --")
                    lines.append(f"{flag}: is not a known flag{hint or f'; see {self.prog} --help'}")
            elif not lines:
                lines.append(f'"{word}": no flag takes this value; see {self.prog} --help')
        return lines

    @staticmethod
    def _refuse(lines: Sequence[str]) -> None:
        if lines:
            raise ConfigError("\n".join(lines))

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"ignored explicit argument .*", "takes no value", message.removeprefix("argument "))
        raise ConfigError(f"{message}; see {self.prog} --help")


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """`--recipe` and one flag per key of the schema, grouped by section."""
    parser.add_argument(
        "--recipe",
        "--config",
        metavar="NAME|FILE",
        help=f"settings on top of config.yaml: {', '.join(recipe_names())}, or a YAML file",
    )
    for section in SECTIONS:
        group = parser.add_argument_group(section.__doc__ or section.__name__)
        for key, field in section.model_fields.items():
            _add_flag(group, key, field)


def _add_flag(group: argparse._ArgumentGroup, key: str, field: FieldInfo) -> None:
    names = [key, *(alias for alias, target in ALIASES.items() if target == key)]
    spelled = [f"--{name.replace('_', '-')}" for name in names]
    default = "unset" if field.default in (None, "") else field.default
    text = f"{field.description} [{default}]".replace("%", "%%")
    common: dict[str, Any] = {"dest": key, "default": argparse.SUPPRESS}
    if _may_be_bool(field):
        group.add_argument(*spelled, nargs="?", const="true", metavar=_metavar(field.annotation), help=text, **common)
        negative = f"--no-{spelled[0][2:]}"
        group.add_argument(negative, action="store_const", const="false", help=argparse.SUPPRESS, **common)
    else:
        group.add_argument(*spelled, metavar=_metavar(field.annotation), help=text, **common)


METAVARS = {bool: "BOOL", int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _metavar(annotation: Any) -> str:
    """The choices if they are fixed, else the kind of value: `N|auto`."""
    if isinstance(annotation, str):
        return annotation
    parts = [part for part in get_args(annotation) if part is not NoneType]
    return METAVARS.get(annotation) or "|".join(map(_metavar, parts))


def _may_be_bool(field: FieldInfo) -> bool:
    return field.annotation is bool or bool in get_args(field.annotation)


def parse_config(parser: Parser, arguments: Sequence[str]) -> Resolved:
    """The configuration that these arguments describe.

    Raises ConfigError listing every unknown flag and every wrong value at once.
    """
    # The toolkit in SageMaker's containers calls `train.py -- --lr 0.1`; the separator means nothing here.
    known, unknown = parser.parse_known_args([hyphenated(argument) for argument in arguments if argument != "--"])
    flags = {
        key: plain(value) for key, value in vars(known).items() if key in Config.model_fields and value is not None
    }
    stray = parser.strays(unknown)
    try:
        resolved = resolve(None if known.recipe is None else plain(known.recipe), flags)
    except ConfigError as error:
        raise ConfigError("\n".join([*stray, str(error)])) from None
    if stray:
        raise ConfigError("\n".join(stray))
    return resolved


def hyphenated(argument: str) -> str:
    """`--batch_size` as `--batch-size`; values are unchanged."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def plain(text: str) -> str:
    """A flag's text without JSON quotes around it."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    return text
