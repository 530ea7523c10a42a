"""Layers of settings to one `Config`: defaults < config.yaml < recipe < flags, all errors at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wrn.config.adapt import adapt, change, word
from wrn.config.files import SECTION_NAMES, canonical, entries, nearest, read_mapping
from wrn.config.links import replaced_links
from wrn.config.schema import ALIASES, Config, Fields
from wrn.errors import ConfigError
from wrn.filesystem import is_file, user_path
from wrn.text import shown

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Layer:
    """Settings from one place, in sections or flat; `name` is what an error or `wrn config` calls that place.

    given: by a person, as a flag or in a file of their own. What ships with the program is a default.
    """

    name: str
    values: Mapping[str, Any]
    given: bool = True


@dataclass(frozen=True)
class Resolved:
    """A configuration, the origin of each value, and the name of the recipe.

    changes: a line for each default that adapted to what was given.
    """

    config: Config
    origins: Mapping[str, str]
    recipe: str
    changes: tuple[str, ...] = ()


def recipe_root() -> Path:
    """The folder in the package that holds config.yaml and configs/."""
    return PACKAGE / "recipes"


def recipe_names() -> list[str]:
    """The recipes that `--recipe` takes by name; `standard` is config.yaml itself."""
    return ["standard", *sorted(path.stem for path in (recipe_root() / "configs").glob("*.yaml"))]


def resolve(recipe: str | None, flags: Mapping[str, Any]) -> Resolved:
    """The configuration of a recipe (a name or the path of a YAML file) with flags on top.

    Raises ConfigError listing every problem, one line each.
    """
    layers = []
    base = recipe_root() / "config.yaml"
    if is_file(base):
        layers.append(replace(read_layer(base, "config.yaml"), given=False))
    name = "standard"
    problems = replaced_links(PACKAGE)
    if recipe is not None and recipe != "standard":
        try:
            path = find_recipe(recipe)
            name = path.stem
            layers.append(replace(read_layer(path, path.name), given=not ships(path)))
        except ConfigError as error:
            problems.append(str(error))
    layers.append(Layer("flag", flags))
    return merge(layers, name, problems)


def find_recipe(recipe: str) -> Path:
    """The file of a recipe given by name or path. Raises ConfigError listing the known recipes."""
    known = recipe_names()
    if recipe in known[1:]:
        return recipe_root() / "configs" / f"{recipe}.yaml"
    try:
        path = user_path(recipe)
    except ValueError as error:
        raise ConfigError(f"recipe: {shown(recipe)} is not allowed; {error}") from None
    if not recipe.endswith((".yaml", ".yml")):
        hint = nearest(recipe, known) or ("; a file name must end in .yaml" if is_file(path) else "")
        raise ConfigError(f'recipe: "{recipe}" is not known{hint}; choose from {", ".join(known)}')
    # configs/x.yaml means the one that ships with the program, from any working directory.
    shipped = recipe_root() / recipe
    path = path if is_file(path) or not is_file(shipped) else shipped
    if not is_file(path):
        named = nearest(path.stem, known).replace("mean ", "mean --recipe ")
        raise ConfigError(f"recipe: there is no file {recipe}{named or '; give an existing YAML file'}")
    return path


def ships(path: Path) -> bool:
    """Whether a recipe file is one of the program's own."""
    return path.resolve().parent == (recipe_root() / "configs").resolve()


def read_layer(path: Path, name: str) -> Layer:
    """The settings of a YAML file. Raises ConfigError if it cannot be read or is not a mapping."""
    return Layer(name, read_mapping(path))


def merge(layers: Sequence[Layer], recipe: str, known_problems: Sequence[str] = ()) -> Resolved:
    """Later layers win, and what is only a default adapts to what was given.

    Raises ConfigError with the known problems and one line per unknown key, wrong value or contradiction.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Config.model_fields, "default")
    levels: list[Mapping[str, Any]] = [dict(Fields())]
    level_of = dict.fromkeys(Config.model_fields, 0)
    top = 1 + sum(not layer.given for layer in layers)
    given: set[str] = set()
    problems = list(known_problems)
    for layer in layers:
        found, misplaced = entries(layer.values, layer.name)
        problems += misplaced
        keys = set()
        for entry in found:
            key = canonical(entry.key)
            if key not in Config.model_fields:
                known = [*Config.model_fields, *ALIASES, *([] if entry.section else SECTION_NAMES)]
                problems.append(
                    f"{entry.path} ({layer.name}): is not a key of the configuration{nearest(entry.key, known)}"
                )
                continue
            values[key] = None if unset(key, entry.value) else entry.value
            origins[key] = layer.name
            keys.add(key)
        if layer.given:
            given |= keys
            level_of |= dict.fromkeys(keys, top)
        else:
            level = _valid(values) or levels[-1]
            # A file that repeats a default does not insist on it: config.yaml repeats all of them.
            level_of |= {key: len(levels) for key in keys if level[key] != levels[-1][key]}
            levels.append(level)
    wrong: set[str] = set()
    try:
        fields = Fields.model_validate(values)
    except ValidationError as error:
        problems += _sentences(error, origins)
        wrong = {str(detail["loc"][0]) for detail in error.errors()}
        fields = Fields.model_validate({key: value for key, value in values.items() if key not in wrong})
    adapted = adapt([*levels, dict(fields)], level_of)
    # A sentence names both of its keys; with an invalid one, it may change.
    problems += [line for line in adapted.problems if not wrong & set(re.findall(r"\w+", line))]
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        config = Config.model_validate(adapted.values)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error, origins))) from None
    changes = []
    for key, reason in adapted.reasons.items():
        because = f"{reason} is {word(getattr(config, reason))}"
        changes.append(change(key, getattr(fields, key), getattr(config, key), because))
        origins[key] = "adapted"
    return Resolved(Config.model_construct(_fields_set=given, **dict(config)), origins, recipe, tuple(changes))


def _valid(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Every key with its value, or None if one is not valid: a later layer may replace it."""
    try:
        return dict(Fields.model_validate(values))
    except ValidationError:
        return None


def unset(key: str, value: Any) -> bool:
    """Whether a text means "no value", for a key that may be unset."""
    return Config.model_fields[key].default is None and str(value).lower() in ("", "none", "null")


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
