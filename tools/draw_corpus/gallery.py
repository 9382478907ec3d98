"""All pictures of the corpus with the folders that they are kept in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tools.draw_corpus import (
    chemistry,
    earth,
    electromagnetism,
    faults,
    instructions,
    mechanics,
    optics,
    quantum,
    thermal,
    waves,
)
from tools.draw_corpus.style import Draw

_CORPUS = Path(__file__).parents[2] / "cambrian_data" / "engine" / "corpus"
IMAGES = _CORPUS / "images"
INSTRUCTION_IMAGES = _CORPUS / "instructions_images"

_FIELDS = (mechanics, waves, optics, quantum, thermal, electromagnetism, chemistry, earth, faults)
CORPUS_PICTURES: dict[str, Draw] = {
    name: draw for module in _FIELDS for name, draw in module.PICTURES.items()
}


def all_pictures() -> Iterator[tuple[Path, str, Draw]]:
    """Every picture as its folder, its name in there and the function that draws it."""
    for name, draw in CORPUS_PICTURES.items():
        yield IMAGES, name, draw
    for name, draw in instructions.PICTURES.items():
        yield INSTRUCTION_IMAGES, name, draw
