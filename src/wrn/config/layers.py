"""Layers of settings to one `Config`: defaults < config.yaml < recipe < flags, all errors at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wrn.config.schema import ALIASES, Config
from wrn.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """Settings from one place; `name` is what an error or `wrn config` calls that place."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """A configuration, the origin of each value, and the name of the recipe."""

    config: Config
    origins: Mapping[str, str]
    recipe: str


def recipe_root() -> Path:
    """The folder that holds config.yaml and configs/: the repository, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    bundled = package / "recipes"
    return bundled if bundled.is_dir() else package.parents[1]


def recipe_names() -> list[str]:
    """The recipes that `--recipe` takes by name; `standard` is config.yaml itself."""
    return ["standard", *sorted(path.stem for path in (recipe_root() / "configs").glob("*.yaml"))]


def resolve(recipe: str | None, flags: Mapping[str, Any]) -> Resolved:
    """The configuration of a recipe (a name or the path of a YAML file) with flags on top.

    Raises ConfigError listing every problem, one line each.
    """
    layers = []
    base = recipe_root() / "config.yaml"
    if base.is_file():
        layers.append(read_layer(base, "config.yaml"))
    name = "standard"
    problems = []
    if recipe is not None and recipe != "standard":
        try:
            path = find_recipe(recipe)
            name = path.stem
            layers.append(read_layer(path, path.name))
        except ConfigError as error:
            problems = [str(error)]
    layers.append(Layer("flag", flags))
    return merge(layers, name, problems)


def find_recipe(recipe: str) -> Path:
    """The file of a recipe given by name or path. Raises ConfigError listing the known recipes."""
    if recipe.endswith((".yaml", ".yml")):
        path = Path(recipe)
        # configs/x.yaml means the one that ships with the program, from any working directory.
        shipped = recipe_root() / recipe
        path = path if path.is_file() or not shipped.is_file() else shipped
        if not path.is_file():
            named = nearest(path.stem, recipe_names()).replace("mean ", "mean --recipe ")
            raise ConfigError(f"recipe: there is no file {recipe}{named or '; give an existing YAML file'}")
        return path
    path = recipe_root() / "configs" / f"{recipe}.yaml"
    if not path.is_file():
        known = recipe_names()
        hint = nearest(recipe, known) or ("; a file name must end in .yaml" if Path(recipe).is_file() else "")
        raise ConfigError(f'recipe: "{recipe}" is not known{hint}; choose from {", ".join(known)}')
    return path


def read_layer(path: Path, name: str) -> Layer:
    """A YAML mapping of keys. Raises ConfigError if the file cannot be read or is not one."""
    try:
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give a readable YAML file") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
        problem = "a tab; YAML needs spaces" if "'\\t'" in problem else problem
        whole = "line" if line else "file"
        raise ConfigError(f"{path}{line}: is not valid YAML ({problem}); fix that {whole}") from None
    except RecursionError:
        raise ConfigError(f'{path}: is nested too deeply; it must hold "key: value" lines') from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: must hold "key: value" lines, but holds {shown(values)}')
    return Layer(name, {str(key): value for key, value in values.items()})


class _Loader(yaml.SafeLoader):
    """Keeps values as text, so that they mean the same as in a flag: YAML reads 010 as 8, 1:30 as 90, no as false.

    Rejects duplicate keys, where YAML's own loader silently takes the last.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as YAML's own
        first: [(tag, form) for tag, form in forms if tag.endswith((":null", ":merge"))]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = canonical(str(key.value))
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name} is set twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def merge(layers: list[Layer], recipe: str, known_problems: Sequence[str] = ()) -> Resolved:
    """Later layers win. Raises ConfigError with the known problems and one line per unknown key or wrong value."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Config.model_fields, "default")
    problems = list(known_problems)
    for layer in layers:
        for given, value in layer.values.items():
            key = canonical(given)
            if key not in Config.model_fields:
                shown = f"--{given.replace('_', '-')}" if layer.name == "flag" else given
                known = [*Config.model_fields, *ALIASES]
                problems.append(f"{shown} ({layer.name}): is not a key of the configuration{nearest(key, known)}")
                continue
            values[key] = None if unset(key, value) else value
            origins[key] = layer.name
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _sentences(error, origins)
        problems += _misfits(values, error, origins)
    if problems:
        raise ConfigError("\n".join(problems))
    return Resolved(config, origins, recipe)


def canonical(key: str) -> str:
    """The schema's name of a key: hyphens and aliases resolved."""
    key = key.strip().replace("-", "_")
    return ALIASES.get(key, key)


def unset(key: str, value: Any) -> bool:
    """Whether a text means "no value", for a key that may be unset."""
    return Config.model_fields[key].default is None and str(value).lower() in ("", "none", "null")


def nearest(word: str, known: list[str]) -> str:
    """`"; did you mean X?"` if a known word is close, else nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def shown(value: Any) -> str:
    """A value as shown in messages, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:90]}... ({len(text)} characters)"


def _misfits(values: Mapping[str, Any], error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    """Conflicts among the valid keys, to be reported together with the invalid ones.

    The schema compares keys only once each is valid, so it is validated again without the invalid ones. A sentence
    names every key that it concerns; one that names an invalid key may change with it and is left out.
    """
    wrong = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
    if not wrong:
        return []  # the conflicts were found already
    try:
        Config.model_validate({key: value for key, value in values.items() if key not in wrong})
    except ValidationError as rest:
        return [line for line in _sentences(rest, origins) if not wrong & set(re.findall(r"\w+", line))]
    return []


def _sentences(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    """A pydantic error in our own form, one line per key: where it was set, its value, what is allowed."""
    lines: list[str] = []
    by_key: dict[str, list[str]] = {}
    values = {}
    for detail in error.errors():
        # Without pydantic's remarks about its parsing, and its type names.
        message = re.split(r", unable to | for <class|, exceeded ", detail["msg"].removeprefix("Value error, "))[0]
        message = message[0].lower() + message[1:].replace("a valid boolean", "true or false")
        if detail["loc"]:
            key = str(detail["loc"][0])
            by_key.setdefault(key, []).append(message)
            values[key] = detail["input"]
        else:
            lines += message.split("\n")
    for key, messages in by_key.items():
        lines.append(f"{key} ({origins[key]}): {shown(values[key])} is not allowed; {', or '.join(messages)}")
    return lines
