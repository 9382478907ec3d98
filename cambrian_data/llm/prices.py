"""What models cost and whether they see: from a file that comes with the project and the user's.

The shipped list (`prices.yaml`) has only what is known for sure; a `prices.yaml` in the workspace,
or the file named in the recipe, is merged over it, field by field. A model is found by its exact
name, else as a dated variant (`gpt-4o-2024-08-06` of `gpt-4o`). A price that is not known is None,
never a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from cambrian_data.recipes import Config
from cambrian_data.records import UserError

FILE_NAME = "prices.yaml"
SHIPPED = Path(__file__).with_name(FILE_NAME)

_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|latest)")
# Families of open models that see; their names are given by whoever serves them.
_SEES = re.compile(
    r"vision|llava|pixtral|internvl|minicpm-v|molmo|cambrian|smolvlm|paligemma|(?<![a-z])vlm?(?![a-z])"
)


class PictureRule(Config):
    """How many tokens a picture takes."""

    kind: Literal["tiles", "patches", "fixed"] = "fixed"
    """tiles: so many for each tile that covers it; patches: one for each; fixed: always `base`."""
    base: int = Field(default=1_024, ge=0)
    """Tokens whatever the size; all that a picture of low detail takes."""
    per_tile: int = Field(default=0, ge=0)
    tile_px: int = Field(default=512, ge=1)
    short_side_px: int = Field(default=768, ge=1)
    """Tiles: the picture is scaled down to this short side, after its long side to 2,048."""
    patch_px: int = Field(default=32, ge=1)
    max_patches: int = Field(default=1_536, ge=1)
    """Patches: the picture is scaled down until it has no more."""
    multiplier: float = Field(default=1.0, gt=0)

    def tokens(self, size: tuple[int, int] | None, *, detail: str = "auto") -> int:
        """Return the tokens of a picture; of the largest one where the size is not known."""
        width, height = size if size and min(size) > 0 else (2_048, 768)
        if self.kind == "tiles":
            if detail == "low":
                return self.base
            return self.base + self.per_tile * self._num_tiles(width, height)
        if self.kind == "patches":
            return math.ceil(self._num_patches(width, height) * self.multiplier)
        return self.base

    def _num_tiles(self, width: int, height: int) -> int:
        scale = min(1.0, 2_048 / max(width, height))
        scale *= min(1.0, self.short_side_px / (min(width, height) * scale))
        side = self.tile_px
        return math.prod(max(1, math.ceil(round(px * scale) / side)) for px in (width, height))

    def _num_patches(self, width: int, height: int) -> int:
        side = self.patch_px
        num = math.ceil(width / side) * math.ceil(height / side)
        return min(num, self.max_patches)


class ModelPrice(Config):
    """One model of the list; prices in USD per million tokens."""

    input: float | None = Field(default=None, ge=0)
    output: float | None = Field(default=None, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    """For the part of the prompt that the server had already. Empty: as `input`."""
    batch_factor: float = Field(default=0.5, gt=0, le=1)
    """What the Batch API takes of the price."""
    vision: bool | None = None
    pictures: PictureRule | None = None


_UNKNOWN = ModelPrice()
_DEFAULT_RULE = PictureRule()


class Prices:
    """The models that are known."""

    def __init__(self, models: Mapping[str, ModelPrice], files: Sequence[Path] = (SHIPPED,)):
        self._models = dict(models)
        self.files = tuple(files)

    def find(self, model: str) -> ModelPrice | None:
        """Return what is known of a model, by its name or as a dated variant of one."""
        if model in self._models:
            return self._models[model]
        bases = [name for name in self._models if model.startswith(name)]
        bases = [name for name in bases if _DATED.fullmatch(model, len(name))]
        return self._models[max(bases, key=len)] if bases else None

    def has_price(self, model: str) -> bool:
        """Whether it is known what a model costs."""
        return self.cost(model, 0, 0) is not None

    def cost(
        self,
        model: str,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        cached_tokens: int = 0,
        is_batch: bool = False,
    ) -> float | None:
        """Return what tokens cost in USD; None where the price is not known."""
        price = self.find(model) or _UNKNOWN
        if price.input is None or price.output is None:
            return None
        cached = min(cached_tokens, prompt_tokens)
        cached_price = price.input if price.cached_input is None else price.cached_input
        micro_usd = (
            (prompt_tokens - cached) * price.input
            + cached * cached_price
            + completion_tokens * price.output
        )
        return micro_usd * (price.batch_factor if is_batch else 1.0) / 1e6

    def can_see(self, model: str) -> bool | None:
        """Whether a model takes pictures; None where neither the list nor its name says so."""
        known = self.find(model)
        if known is not None and known.vision is not None:
            return known.vision
        return True if _SEES.search(model.casefold()) else None

    def picture_rule(self, model: str) -> PictureRule:
        """Return how a model counts pictures; a round number where it is not known."""
        known = self.find(model)
        return known.pictures if known and known.pictures else _DEFAULT_RULE

    def where_to_add(self) -> str:
        """Say where a user writes down a price."""
        own = [str(path) for path in self.files if path != SHIPPED]
        return own[-1] if own else f"{FILE_NAME} in the workspace"


def load_prices(workspace: Path | None = None, own: str = "") -> Prices:
    """Return the shipped prices with the user's merged over them.

    Args:
        workspace: a folder whose `prices.yaml` is read, where it has one.
        own: path of a further file, which must be there (`LlmConfig.prices`).
    Raises:
        UserError: a file cannot be read or understood; the message says where.
    """
    files = [SHIPPED]
    if workspace is not None and (workspace / FILE_NAME).is_file():
        files.append(workspace / FILE_NAME)
    if own:
        files.append(Path(own).expanduser())
    merged: dict[str, dict[str, Any]] = {}
    models: dict[str, ModelPrice] = {}
    for path in files:
        entries, root = _read(path)
        for name, entry in entries.items():
            merged[name] = {**merged.get(name, {}), **entry}
            models[name] = _check(merged[name], path, root, name)
    return Prices(models, files)


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], yaml.Node]:
    """Return the entries of a price file, and its nodes, which know their lines."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the price file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise UserError(f"the price file {path}{line}: {problem}") from None
    entries = data.get("models") if isinstance(data, dict) else None
    if not isinstance(entries, dict) or root is None or set(data) - {"models", "as_of"}:
        raise UserError(
            f"the price file {path} must hold `models:` with a name and prices each, such as "
            "`models: {my-model: {input: 0.5, output: 2.0}}`, and may hold `as_of:`; nothing else"
        )
    for name, entry in entries.items():
        if not isinstance(name, str) or not isinstance(entry, dict):
            line_no = _line(root, ("models", str(name)))
            raise UserError(
                f"the price file {path}, line {line_no}: {name!r} must be a model's name with "
                f"`input:` and `output:` under it, got {entry!r}"
            )
    return entries, root


def _check(entry: dict[str, Any], path: Path, root: yaml.Node, name: str) -> ModelPrice:
    try:
        price = ModelPrice.model_validate(entry)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = (name, *map(str, fault["loc"]))
        raise UserError(
            f"the price file {path}, line {_line(root, ('models', *place))}: {'.'.join(place)}: "
            f"{fault['msg']} (got {str(fault['input'])[:80]!r})"
        ) from None
    if (price.input is None) != (price.output is None):
        raise UserError(
            f"the price file {path}, line {_line(root, ('models', name))}: {name} has a price for "
            "only one of `input` and `output`; give both, in USD per million tokens"
        )
    return price


def _line(node: yaml.Node, place: Sequence[str]) -> int:
    """Return the line, from 1, of the deepest node on a path of keys."""
    line = node.start_mark.line
    for key in place:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next((pair for pair in pairs if str(pair[0].value) == key), None)
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return line + 1
