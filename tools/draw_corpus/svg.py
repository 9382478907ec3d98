"""A small builder of SVG diagrams whose letters are paths, so that no font is needed to show them.

Glyphs come from the DejaVu fonts inside matplotlib and are written once each; `_x` and `^x` (or
`_{..}`) set subscripts and superscripts. Coordinates are pixels, y pointing down.
"""

from __future__ import annotations

import itertools
import math
import re
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.ft2font import FT2Font, LoadFlags

from tools.draw_corpus.style import INK

_FILES = {"": "DejaVuSans.ttf", "b": "DejaVuSans-Bold.ttf", "i": "DejaVuSans-Oblique.ttf"}
_EM = 100
_SCRIPT_SCALE = 0.7
_TOKENS = re.compile(r"([_^])(?:\{([^}]*)\}|(.))|([^_^]+)")


@cache
def _font(face: str) -> FT2Font:
    font = FT2Font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FILES[face])
    font.set_size(_EM, 72)
    return font


@cache
def _glyph(face: str, letter: str) -> tuple[str, float]:
    """The outline of a letter at 100 px as path data, and how far it moves the pen."""
    font = _font(face)
    advance = font.load_char(ord(letter), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536
    points, codes = font.get_path()
    parts: list[str] = []
    index = 0
    while index < len(codes):
        name, size = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}[
            codes[index]
        ]
        if name == "Z":
            parts.append("Z")
        else:
            run = points[index : index + size]
            parts.append(name + " ".join(f"{x:.0f} {-y:.0f}" for x, y in run))
        index += size
    return "".join(parts), advance


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Drawing:
    """A picture that grows shape by shape; `encode` gives the bytes of the file."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._glyphs: dict[tuple[str, str], str] = {}
        self._shapes: list[str] = []

    def _add(self, tag: str, **attributes: float | str | None) -> None:
        if attributes.get("stroke") == "none":
            attributes |= {"stroke": None, "stroke_width": None}
        pairs = []
        for name, value in attributes.items():
            if value is not None:
                text = value if isinstance(value, str) else _number(value)
                pairs.append(f'{name.replace("_", "-")}="{text}"')
        self._shapes.append(f"<{tag} {' '.join(pairs)}/>")

    def line(
        self, start: tuple[float, float], end: tuple[float, float], color: str = INK,
        *, width: float = 2, dash: str | None = None,
    ) -> None:  # fmt: skip
        """A straight line."""
        self._add(
            "line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], stroke=color,
            stroke_width=width, stroke_dasharray=dash, stroke_linecap="round",
        )  # fmt: skip

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], color: str = INK,
        *, width: float = 2.5, head: float = 11, dash: str | None = None,
    ) -> None:  # fmt: skip
        """A line with a filled head at its end."""
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        neck = (end[0] - 0.8 * head * math.cos(angle), end[1] - 0.8 * head * math.sin(angle))
        self.line(start, neck, color, width=width, dash=dash)
        wings = [
            (end[0] - head * math.cos(angle + turn), end[1] - head * math.sin(angle + turn))
            for turn in (0.4, -0.4)
        ]
        self.polygon([end, *wings], color)

    def head(
        self, at: tuple[float, float], toward: tuple[float, float], color: str, size: float = 12
    ) -> None:
        """An arrow head alone, centred on a point of a ray."""
        angle = math.atan2(toward[1] - at[1], toward[0] - at[0])
        tip = (at[0] + size / 2 * math.cos(angle), at[1] + size / 2 * math.sin(angle))
        wings = [
            (tip[0] - size * math.cos(angle + turn), tip[1] - size * math.sin(angle + turn))
            for turn in (0.42, -0.42)
        ]
        self.polygon([tip, *wings], color)

    def ray(
        self, points: list[tuple[float, float]], color: str, *, width: float = 2.5,
        dash: str | None = None, heads: bool = True,
    ) -> None:  # fmt: skip
        """A broken line with an arrow head in the middle of each piece."""
        self.polyline(points, color, width=width, dash=dash)
        for start, end in itertools.pairwise(points):
            if heads:
                middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
                self.head(middle, end, color)

    def polyline(
        self, points: list[tuple[float, float]], color: str = INK, *, width: float = 2,
        dash: str | None = None, fill: str = "none",
    ) -> None:  # fmt: skip
        """A broken line, open."""
        text = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._add(
            "polyline", points=text, fill=fill, stroke=color, stroke_width=width,
            stroke_dasharray=dash, stroke_linejoin="round", stroke_linecap="round",
        )  # fmt: skip

    def polygon(
        self, points: list[tuple[float, float]], fill: str, *, stroke: str = "none",
        width: float = 1.5, opacity: float | None = None,
    ) -> None:  # fmt: skip
        """A filled shape with straight sides."""
        text = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._add(
            "polygon", points=text, fill=fill, stroke=stroke, stroke_width=width,
            fill_opacity=opacity,
        )  # fmt: skip

    def rect(
        self, corner: tuple[float, float], size: tuple[float, float], fill: str = "none",
        *, stroke: str = "none", width: float = 1.5, radius: float = 0,
    ) -> None:  # fmt: skip
        """A rectangle from its upper left corner."""
        self._add(
            "rect", x=corner[0], y=corner[1], width=size[0], height=size[1], rx=radius or None,
            fill=fill, stroke=stroke, stroke_width=width,
        )  # fmt: skip

    def circle(
        self, centre: tuple[float, float], radius: float, fill: str = "none",
        *, stroke: str = "none", width: float = 2, dash: str | None = None,
    ) -> None:  # fmt: skip
        """A circle."""
        self._add(
            "circle", cx=centre[0], cy=centre[1], r=radius, fill=fill, stroke=stroke,
            stroke_width=width, stroke_dasharray=dash,
        )  # fmt: skip

    def path(self, data: str, color: str = INK, *, width: float = 2, fill: str = "none") -> None:
        """Any outline, as SVG path data."""
        self._add("path", d=data, fill=fill, stroke=color, stroke_width=width)

    def arc(
        self, centre: tuple[float, float], radius: float, degrees: tuple[float, float],
        color: str = INK, *, width: float = 1.8,
    ) -> None:  # fmt: skip
        """A part of a circle; angles run counter-clockwise from the right, as in mathematics."""
        steps = [degrees[0] + (degrees[1] - degrees[0]) * i / 24 for i in range(25)]
        points = [
            (
                centre[0] + radius * math.cos(math.radians(a)),
                centre[1] - radius * math.sin(math.radians(a)),
            )
            for a in steps
        ]
        self.polyline(points, color, width=width)

    def text(
        self, at: tuple[float, float], words: str, *, size: float = 17, color: str = INK,
        anchor: str = "start", face: str = "",
    ) -> None:  # fmt: skip
        """Words with their base line at a point; anchor is start, middle or end."""
        placed, length = self._place(words, size, face)
        shift = {"start": 0.0, "middle": -length / 2, "end": -length}[anchor]
        uses = [
            f'<use href="#{self._glyph_id(face, letter)}" transform="translate('
            f'{_number(at[0] + shift + x)} {_number(at[1] + y)}) scale({_number(scale)})"/>'
            for letter, x, y, scale in placed
            if letter != " "
        ]
        joined = "".join(uses)
        self._shapes.append(f'<g fill="{color}" aria-label="{escape(words)}">{joined}</g>')

    def _place(
        self, words: str, size: float, face: str
    ) -> tuple[list[tuple[str, float, float, float]], float]:
        pen = 0.0
        placed = []
        for script, braced, single, plain in _TOKENS.findall(words):
            scale = size / _EM * (_SCRIPT_SCALE if script else 1)
            drop = {"_": 0.22 * size, "^": -0.38 * size, "": 0.0}[script]
            for letter in plain or braced or single:
                placed.append((letter, pen, drop, scale))
                pen += _glyph(face, letter)[1] * scale
        return placed, pen

    def _glyph_id(self, face: str, letter: str) -> str:
        return self._glyphs.setdefault((face, letter), f"g{len(self._glyphs)}")

    def encode(self) -> bytes:
        """The whole file, on a white ground."""
        width, height = self._size
        outlines = "".join(
            f'<path id="{name}" d="{_glyph(*key)[0]}"/>' for key, name in self._glyphs.items()
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(self._title)}</title>",
            f"<defs>{outlines}</defs>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *self._shapes,
            "</svg>",
        ]
        return ("\n".join(lines) + "\n").encode("ascii", "xmlcharrefreplace")
