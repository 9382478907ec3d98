"""SVG to pixels in a bounded way: nothing is fetched, no script runs, no expansion explodes.

The file is parsed, stripped of everything that could reach outside, its references are counted
out, and only then drawn, at the size it states or smaller. Text is set in the DejaVu fonts that
come with matplotlib, never in those of the machine: the same bytes give the same picture.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib.util
import io
import re
from pathlib import Path

import resvg_py
from lxml import etree
from PIL import Image, UnidentifiedImageError

MAX_DRAWN_ELEMENTS = 200_000
"""Elements after every reference is expanded; the largest maps have some ten thousand."""
MAX_EMBEDDED_PIXELS = 20_000_000
MAX_ENTITY_CHARS = 256

_DOCTYPE = re.compile(rb"<!DOCTYPE\s+[^\[>]*(\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_ENTITY = re.compile(rb"<!ENTITY\s+(.*?)>", re.DOTALL)
_FLAT_ENTITY = re.compile(rb"""[\w.:-]+\s+(["'])([^&%<]*)\1\s*""", re.DOTALL)
_REMOVED = frozenset(
    {"script", "foreignObject", "handler", "animation", "iframe", "audio", "video", "set"}
)
_HREFS = ("href", "{http://www.w3.org/1999/xlink}href")
_LINK = re.compile(r"url\(\s*['\"]?#([^'\")]+)['\"]?\s*\)")
_EMBEDDED = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,(.*)", re.DOTALL)
_UNITS_PX = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54}
_UNITS_PX |= {"in": 96.0, "em": 16.0, "ex": 8.0, "rem": 16.0}


class SvgError(ValueError):
    """An SVG that cannot or must not be drawn; `reason` is one of `DROP_REASONS["images"]`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def looks_like_svg(data: bytes) -> bool:
    """Tell by its beginning whether a file is an SVG, whatever its name says."""
    head = data[:65_536].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head.startswith(b"<"):
        return False
    plain = re.sub(rb"<!--.*?-->|<\?.*?\?>", b"", head, flags=re.DOTALL)
    plain = _DOCTYPE.sub(b"", plain, count=1).lstrip()
    return re.match(rb"<([\w-]+:)?svg[\s>/]", plain) is not None


def draw_svg(data: bytes, max_side_px: int) -> Image.Image:
    """Return the drawing as RGBA, at the size that it states and at most `max_side_px`.

    Raises:
        SvgError: not XML, no size, an expansion that explodes, or nothing to see.
    """
    _refuse_entities(data)
    root = _parsed(data)
    _strip(root)
    _refuse_explosion(root)
    width, height = _size(root)
    scale = min(1.0, max_side_px / max(width, height))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    image = _drawn(etree.tostring(root, encoding="unicode"), target)
    if image.getchannel("A").getextrema()[1] == 0:
        raise SvgError("corrupt", "the SVG draws nothing")
    return image


def _refuse_entities(data: bytes) -> None:
    """Let through only short entities without references, as drawing programs write them."""
    for declared in _ENTITY.findall(data):
        flat = _FLAT_ENTITY.fullmatch(declared)
        if flat is None or len(flat[2]) > MAX_ENTITY_CHARS:
            raise SvgError("hostile", "the SVG declares nested or outside entities")


def _parsed(data: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities="internal", no_network=True, load_dtd=False, remove_comments=True,
        remove_pis=True, huge_tree=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise SvgError("corrupt", f"not well-formed XML: {error}") from None
    if root is None or etree.QName(root).localname != "svg":
        raise SvgError("not_a_picture", "the root element is not svg")
    return root


def _strip(root: etree._Element) -> None:
    """Remove scripts, foreign content, event attributes and every address outside the file."""
    for element in list(root.iter()):
        if not isinstance(element.tag, str) or etree.QName(element).localname in _REMOVED:
            if element.getparent() is not None:
                element.getparent().remove(element)
            continue
        for name in list(element.attrib):
            if etree.QName(name).localname.lower().startswith("on"):
                del element.attrib[name]
        for name in _HREFS:
            address = element.get(name)
            if address is not None and not _is_inside(address.strip()):
                del element.attrib[name]
        if etree.QName(element).localname == "style" and element.text:
            element.text = re.sub(r"@import[^;]*;?|url\(\s*['\"]?(?!\s*#)[^)]*\)", "", element.text)


def _is_inside(address: str) -> bool:
    """Tell whether an address names a part of the file, or a picture of decent size within it."""
    if address.startswith("#"):
        return True
    embedded = _EMBEDDED.fullmatch(address)
    if embedded is None:
        return False
    try:
        with Image.open(io.BytesIO(base64.b64decode(embedded[1]))) as image:
            return image.width * image.height <= MAX_EMBEDDED_PIXELS
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return False
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False


def _refuse_explosion(root: etree._Element) -> None:
    """Count the elements that are drawn once every reference is followed."""
    by_id = {element.get("id"): element for element in root.iter() if element.get("id")}
    costs: dict[etree._Element, int] = {}
    todo: list[tuple[etree._Element, bool]] = [(root, False)]
    open_elements: set[etree._Element] = set()
    while todo:
        element, is_done = todo.pop()
        parts = [child for child in element if isinstance(child.tag, str)]
        parts += [by_id[name] for name in _references(element) if name in by_id]
        if is_done:
            open_elements.discard(element)
            costs[element] = 1 + sum(costs.get(part, 0) for part in parts)
            if costs[element] > MAX_DRAWN_ELEMENTS:
                raise SvgError("hostile", f"more than {MAX_DRAWN_ELEMENTS} elements when expanded")
        elif element not in costs and element not in open_elements:
            open_elements.add(element)
            todo.append((element, True))
            todo.extend((part, False) for part in parts if part not in open_elements)


def _references(element: etree._Element) -> list[str]:
    found = [address[1:] for name in _HREFS if (address := element.get(name) or "")[:1] == "#"]
    for value in element.attrib.values():
        if "url(" in value:
            found += _LINK.findall(value)
    return found


def _size(root: etree._Element) -> tuple[float, float]:
    """Return the size in pixels: the stated one, that of the view box, or the default of CSS."""
    box = [float(part) for part in re.findall(r"[-+]?[\d.]+(?:e[-+]?\d+)?", root.get("viewBox", ""))
           if part.count(".") <= 1 and part.strip("+-.")][:4]  # fmt: skip
    box_size = (box[2], box[3]) if len(box) == 4 else (None, None)
    width, height = _length_px(root.get("width")), _length_px(root.get("height"))
    if box_size[0] and box_size[1]:
        if width is None and height is None:
            width, height = box_size
        elif width is None and height is not None:
            width = height * box_size[0] / box_size[1]
        elif height is None and width is not None:
            height = width * box_size[1] / box_size[0]
    width, height = (300.0, 150.0) if width is None or height is None else (width, height)
    if not (0 < width < 1e12 and 0 < height < 1e12):
        raise SvgError("corrupt", f"the SVG states the size {width:g} x {height:g}")
    return width, height


def _length_px(value: str | None) -> float | None:
    found = re.fullmatch(r"\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*([a-z]*)\s*", value or "")
    return float(found[1]) * _UNITS_PX[found[2]] if found and found[2] in _UNITS_PX else None


def _drawn(text: str, target: tuple[int, int]) -> Image.Image:
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=text,
            width=target[0],
            height=target[1],
            skip_system_fonts=True,
            font_files=_fonts(),
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
            serif_family="DejaVu Serif",
            monospace_family="DejaVu Sans Mono",
        )
    except ValueError as error:
        raise SvgError("corrupt", f"cannot be drawn: {error}") from None
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


@functools.cache
def _fonts() -> list[str]:
    """Return the files of the DejaVu fonts that matplotlib carries, found without importing it."""
    spec = importlib.util.find_spec("matplotlib")
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted(
        str(path)
        for folder in folders or []
        for path in Path(folder).glob("mpl-data/fonts/ttf/DejaVuS*.ttf")
        if "Display" not in path.name
    )
