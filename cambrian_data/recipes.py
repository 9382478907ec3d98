"""YAML recipes to typed configs.

`load_recipe("tiny", "data", CurateRecipe, ["mixture.size=500"])` finds `recipes/data/tiny.yaml`
(or takes a path), applies the settings, and returns a checked, frozen config with the hash of its
full content. Unknown keys, doubled keys and wrong values are `RecipeError`s that name the recipe,
the key, the value and the nearest thing that exists. Recipes are data: nothing in them is run.
"""

from __future__ import annotations

import difflib
import reprlib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cambrian_data.records import UserError, content_id

Kind = Literal["data", "train"]


class RecipeError(UserError):
    """A recipe that cannot be found, read or understood."""


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys, docstrings under the fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )


ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Recipe(Generic[ConfigT]):
    """A recipe that was read: its name, where it came from, its config and the config's hash."""

    name: str
    path: Path
    config: ConfigT
    sha256: str

    def content(self) -> dict[str, Any]:
        """Return the whole config with every default filled in, as plain JSON data."""
        return self.config.model_dump(mode="json")


def load_recipe(
    name: str, kind: Kind, schema: type[ConfigT], settings: Sequence[str] = ()
) -> Recipe[ConfigT]:
    """Find a recipe, apply `section.field=value` settings, check it.

    Args:
        name: a recipe's name (`tiny`) or a path to a YAML file.
        kind: the folder under `recipes/` that a name is looked for in.
        schema: the pydantic model that the recipe must fit.
        settings: assignments as given to `--set`; values are read as YAML.
    Raises:
        RecipeError: no such recipe, not YAML, unknown key, value of a wrong type or size.
    """
    path = find_recipe(name, kind)
    data = _read_yaml(path)
    for setting in settings:
        _assign(data, setting)
    _check_keys(data, schema, str(path), settings)
    try:
        config = schema.model_validate(data)
        sha256 = content_id(config.model_dump(mode="json"))
    except ValidationError as error:
        raise RecipeError(_explain(error, path, settings)) from None
    except TypeError as error:  # orjson: integers have at most 64 bits
        raise RecipeError(f"{path}: {error}") from None
    return Recipe(name=path.stem, path=path, config=config, sha256=sha256)


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with the project, installed or in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "_recipes"
    return installed if installed.is_dir() else here.parent / "recipes"


def recipe_names(kind: Kind) -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(path.stem for path in (recipes_folder() / kind).glob("*.yaml"))


def find_recipe(name: str, kind: Kind) -> Path:
    """Return the file of a recipe given by name or by path.

    Raises:
        RecipeError: there is none; the message lists those that there are.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {str(path)!r}")
        return path
    path = recipes_folder() / kind / f"{name}.yaml"
    if path.is_file():
        return path
    names = recipe_names(kind)
    raise RecipeError(
        f"there is no {kind} recipe {name!r}{_nearest(name, names)} "
        f"(known: {', '.join(names)}; a path to a .yaml file works too)"
    )


# ------------------------------------------------------------------------------ reading YAML


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without the trap of doubled keys, where the last would win in silence."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # a few of them can stand for millions of values
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not allowed in recipes", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is no name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(f"{path}{where}: not valid YAML: {problem}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text: {error}") from None
    except (RecursionError, ValueError) as error:
        raise RecipeError(f"{path}: nested too deep, or a number out of range: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, this is a {type(data).__name__}")
    return data


def _assign(data: dict[str, Any], setting: str) -> None:
    """Apply one `a.b.c=value` in place; missing levels are made."""
    dotted, equals, text = setting.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {setting!r}: write it as section.field=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RecipeError(f"--set {setting!r}: {text!r} is not a YAML value") from None
    at = data
    for key in keys[:-1]:
        below = at.setdefault(key, {})
        if not isinstance(below, dict):
            raise RecipeError(f"--set {setting!r}: {key!r} is a value, not a section")
        at = below
    at[keys[-1]] = value


# ------------------------------------------------------------------------------ explaining


def _check_keys(
    data: Any, schema: type[BaseModel], where: str, settings: Sequence[str], prefix: str = ""
) -> None:
    """Raise on the first key that the schema lacks, naming the nearest one that it has."""
    if not isinstance(data, dict):
        return
    fields = {field.alias or name: field for name, field in schema.model_fields.items()}
    for key, value in data.items():
        dotted = f"{prefix}{key}"
        if key not in fields:
            origin = "--set" if any(s.startswith(f"{dotted}=") for s in settings) else where
            near = _nearest(str(key), list(fields), prefix)
            known = ", ".join(f"{prefix}{name}" for name in fields)
            raise RecipeError(f"{origin}: unknown key {dotted!r}{near} (known here: {known})")
        for model, part, step in _models_below(fields[key].annotation, value):
            _check_keys(part, model, where, settings, f"{dotted}{step}.")


def _models_below(annotation: Any, value: Any) -> Iterator[tuple[type[BaseModel], Any, str]]:
    """Yield the nested models of a field, each with the data that must fit it and its place."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, value, ""
    elif origin in (list, tuple) and isinstance(value, list) and args:
        for number, item in enumerate(value):
            for model, part, step in _models_below(args[0], item):
                yield model, part, f".{number}{step}"
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            for model, part, step in _models_below(args[1], item):
                yield model, part, f".{key}{step}"
    elif args and origin is not dict:
        models = [arg for arg in args if isinstance(arg, type) and issubclass(arg, BaseModel)]
        if len(models) == 1:  # Optional[Model]
            yield models[0], value, ""


def _nearest(word: str, known: Sequence[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {prefix + close[0]!r}?" if close else ""


def _explain(error: ValidationError, path: Path, settings: Sequence[str]) -> str:
    """Say in one line a problem what pydantic found, and in what: a setting or the file."""
    assigned = [setting.partition("=")[0].strip() for setting in settings]
    lines = []
    for problem in error.errors(include_url=False):
        dotted = ".".join(str(part) for part in problem["loc"])
        given = "" if problem["type"] == "missing" else f", got {reprlib.repr(problem['input'])}"
        message = problem["msg"].removeprefix("Value error, ")
        is_set = any(dotted == name or dotted.startswith(f"{name}.") for name in assigned)
        lines.append(f"{'--set' if is_set else path}: {dotted or 'recipe'}: {message}{given}")
    return "\n".join(lines)
