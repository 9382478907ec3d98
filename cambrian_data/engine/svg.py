"""SVG to pixels in a bounded way: nothing is fetched, no script runs, no expansion explodes.

The file is parsed, stripped of everything that could reach outside, its references are counted
out, and only then drawn, at the size it states or smaller, in a process of its own: filters and
patterns can cost hours, and the drawing library cannot be interrupted. Text is set in the DejaVu
fonts that come with matplotlib, never in those of the machine: the same bytes give the same
picture. Some 0.1 s a drawing; all checks before it take time in proportion to the file.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib.util
import io
import itertools
import json
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lxml import etree
from PIL import Image, UnidentifiedImageError

MAX_DRAWN_ELEMENTS = 200_000
"""Elements after every reference is expanded; the largest maps have some ten thousand."""
MAX_EMBEDDED_PIXELS = 20_000_000
MAX_ENTITY_CHARS = 256
MAX_ENTITIES = 1000
MAX_SVG_BYTES = 20_000_000
MAX_TAGS = 3 * MAX_DRAWN_ELEMENTS
"""Opening and closing tags, comments and the like, counted before the file is parsed."""
MAX_DRAWING_S = 10
"""Processor time for one drawing; the largest maps take some two seconds."""
_MAX_WAITING_S = 60
_BROKEN_BY = frozenset(
    {signal.SIGXCPU, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}
)
"""Signals by which a drawing ends of its own accord: bounds that it passed, or a fault in it."""
_MAX_DRAWING_BYTES = 2**30

_FLAT_ENTITY = re.compile(rb"""[\w.:-]+\s+(["'])([^&%<]*)\1\s*""", re.DOTALL)
_ATTRIBUTES = re.compile(rb"<!ATTLIST[^>]{0,1000}")
_XLINK = re.compile(rb"""xmlns:xlink\s+CDATA\s+#FIXED\s+(["'])http://www\.w3\.org/1999/xlink\1""")
"""The one default value that drawing programs declare: old versions of Graphviz do."""
_ENCODING = re.compile(rb"""<\?xml[^>]{0,80}?\sencoding\s*=\s*["']([\w.:-]{1,40})["']""")
_PLAIN_ENCODING = re.compile(
    rb"utf-?8|(us-)?ascii|iso-8859-\d+|latin-?1|(windows-|cp)125\d|koi8-[ru]|gb2312|gbk|gb18030"
    rb"|big5|shift_jis|euc-(jp|kr)",
    re.IGNORECASE,
)
"""Encodings in which a tag is never written in other bytes than in ASCII."""
_REMOVED = frozenset(
    {"script", "foreignObject", "handler", "animation", "iframe", "audio", "video", "set"}
)
_HREFS = ("href", "{http://www.w3.org/1999/xlink}href")
_URL = re.compile(r"url\(", re.IGNORECASE)
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_LENGTH = re.compile(rf"\s*({_NUMBER})\s*([a-z]*)\s*")
_MAX_LENGTH_CHARS = 64
_EMBEDDED = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,(.*)", re.DOTALL)
_UNITS_PX = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54}
_UNITS_PX |= {"in": 96.0, "em": 16.0, "ex": 8.0, "rem": 16.0}


class SvgError(ValueError):
    """An SVG that cannot or must not be drawn; `reason` is one of `DROP_REASONS["images"]`.

    `is_passing` says that the drawing was broken off from outside: another try may end well.
    """

    def __init__(self, reason: str, detail: str, *, is_passing: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.is_passing = reason, detail, is_passing


def looks_like_svg(data: bytes) -> bool:
    """Tell by its beginning whether a file is an SVG, whatever its name says."""
    head = data[:65_536].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head.startswith(b"<"):
        return False
    at = 0
    while at >= 0:
        if head.startswith(b"<!--", at):
            at = _after(head, b"-->", at + 4)
        elif head.startswith(b"<?", at):
            at = _after(head, b"?>", at + 2)
        elif head[at : at + 9].upper() == b"<!DOCTYPE":
            at = _after_doctype(head, at)
        else:
            return re.compile(rb"<([\w-]{1,64}:)?svg[\s>/]").match(head, at) is not None
        at = _after(head, b"<", at) - 1 if at >= 0 else -1
    return False


def _after(data: bytes, mark: bytes, at: int) -> int:
    """Return where the next `mark` ends, -1 or less where there is none."""
    found = data.find(mark, at)
    return found + len(mark) if found >= 0 else -1


def _after_doctype(head: bytes, at: int) -> int:
    """Return where a document type ends, with the declarations inside it."""
    end, inner = _after(head, b">", at), head.find(b"[", at)
    if inner < 0 or 0 <= end < inner:
        return end
    closed = re.compile(rb"\]\s*>").search(head, inner)
    return closed.end() if closed else -1


def draw_svg(data: bytes, max_side_px: int) -> Image.Image:
    """Return the drawing as RGBA, at the size that it states and at most `max_side_px`.

    Raises:
        SvgError: not XML, no size, an expansion that explodes, or nothing to see.
    """
    if len(data) > MAX_SVG_BYTES:
        raise SvgError("too_large", f"an SVG of {len(data)} bytes, at most {MAX_SVG_BYTES}")
    if data.count(b"<") > MAX_TAGS:
        raise SvgError("hostile", f"more than {MAX_TAGS} tags")
    _refuse_encoding(data)
    _refuse_entities(data)
    _refuse_default_attributes(data)
    root = _parsed(data)
    num_removed = _strip(root)
    _refuse_explosion(root)
    width, height = _size(root)
    scale = min(1.0, max_side_px / max(width, height))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    image = _drawn(etree.tostring(root, encoding="unicode"), target)
    if image.getchannel("A").getextrema()[1] == 0:
        if num_removed:
            raise SvgError("hostile", "nothing to see beside scripts and outside addresses")
        raise SvgError("corrupt", "the SVG draws nothing")
    return image


def _refuse_entities(data: bytes) -> None:
    """Let through only short entities without references, as drawing programs write them."""
    at = num_entities = 0
    while (start := _after(data, b"<!ENTITY", at)) >= 0:
        at = _after(data, b">", start)
        declared = data[start : at - 1 if at >= 0 else len(data)].lstrip()
        is_short = len(declared) <= 2 * MAX_ENTITY_CHARS
        flat = _FLAT_ENTITY.fullmatch(declared) if is_short and at >= 0 else None
        if flat is None or len(flat[2]) > MAX_ENTITY_CHARS:
            raise SvgError("hostile", "the SVG declares nested or outside entities")
        num_entities += 1
        if num_entities > MAX_ENTITIES:
            raise SvgError("hostile", f"the SVG declares more than {MAX_ENTITIES} entities")


def _refuse_encoding(data: bytes) -> None:
    """Refuse encodings that hide from the checks of the bytes what the parser will see."""
    declared = _ENCODING.search(data[:1000])
    if declared and not _PLAIN_ENCODING.fullmatch(declared[1]):
        raise SvgError("corrupt", f"its encoding {declared[1].decode()!r} is none of the web's")


def _refuse_default_attributes(data: bytes) -> None:
    """Refuse attributes by declaration: lxml breaks down when one of them is removed."""
    for declared in _ATTRIBUTES.finditer(data):
        text = _XLINK.sub(b"", declared[0])
        if b'"' in text or b"'" in text or data[declared.end() : declared.end() + 1] != b">":
            raise SvgError("hostile", "the SVG declares attributes that it does not write")


def _parsed(data: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities="internal", no_network=True, load_dtd=False, remove_comments=True,
        remove_pis=True, huge_tree=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise SvgError("corrupt", f"not well-formed XML: {error.msg}") from None
    if root is None or etree.QName(root).localname != "svg":
        raise SvgError("not_a_picture", "the root element is not svg")
    return root


def _strip(root: etree._Element) -> int:
    """Remove scripts, foreign content, event attributes and every address outside the file.

    Returns:
        How many were removed.
    """
    num_removed = 0
    for element in list(root.iter()):
        if not isinstance(element.tag, str) or etree.QName(element).localname in _REMOVED:
            if element.getparent() is not None:
                element.getparent().remove(element)
                num_removed += 1
            continue
        for name in list(element.attrib):
            if etree.QName(name).localname.lower().startswith("on"):
                del element.attrib[name]
                num_removed += 1
        for name in _HREFS:
            address = element.get(name)
            if address is not None and not _is_inside(address.strip()):
                del element.attrib[name]
                num_removed += etree.QName(element).localname != "a"  # a link shows nothing
        if etree.QName(element).localname == "style" and element.text:
            element.text = _without_outside(element.text)
    return num_removed


def _without_outside(style: str) -> str:
    """Return a style sheet without imports and without addresses outside the file."""
    style = re.sub(r"@import[^;]*;?", "", style, flags=re.IGNORECASE)
    kept, at = [], 0
    for start, end, target in _urls(style):
        kept.append(style[at : end if target.startswith("#") else start])
        at = end
    return "".join([*kept, style[at:]])


def _urls(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and target of every `url(...)`; one that is not closed ends the text."""
    at = 0
    while found := _URL.search(text, at):
        close = text.find(")", found.end())
        at = close + 1 if close >= 0 else len(text)
        target = text[found.end() : close if close >= 0 else len(text)]
        yield found.start(), at, target.strip().strip("'\"").strip()


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
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError,
            IndexError, KeyError, TypeError, OverflowError, struct.error):  # fmt: skip
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
        if "(#" in value or "url" in value.lower():
            found += [target[1:] for _, _, target in _urls(value) if target[:1] == "#"]
    return found


def _size(root: etree._Element) -> tuple[float, float]:
    """Return the size in pixels: the stated one, that of the view box, or the default of CSS."""
    numbers = itertools.islice(re.finditer(_NUMBER, root.get("viewBox", "")), 4)
    box = [float(number[0]) for number in numbers]
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
    found = _LENGTH.fullmatch(value or "") if len(value or "") <= _MAX_LENGTH_CHARS else None
    return float(found[1]) * _UNITS_PX[found[2]] if found and found[2] in _UNITS_PX else None


_DRAWING = """
import json, resource, sys
given = json.loads(sys.stdin.buffer.readline())
for name, most in (("CPU", given["max_s"]), ("AS", given["max_bytes"]), ("CORE", 0)):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
    except (ValueError, OSError):  # macOS bounds no memory
        pass
sys.path.append(given["path"])
import resvg_py
try:
    png = resvg_py.svg_to_bytes(svg_string=sys.stdin.buffer.read().decode(), **given["options"])
except ValueError as error:
    sys.exit(str(error)[:500])
sys.stdout.buffer.write(bytes(png))
"""
"""What the process of a drawing runs: it bounds itself, then draws what it reads."""


def _drawn(text: str, target: tuple[int, int]) -> Image.Image:
    """Draw in a process that may fail, grow or hang without harm to this one."""
    options = {
        "width": target[0],
        "height": target[1],
        "skip_system_fonts": True,
        "font_files": _fonts(),
        "font_family": "DejaVu Sans",
        "sans_serif_family": "DejaVu Sans",
        "serif_family": "DejaVu Serif",
        "monospace_family": "DejaVu Sans Mono",
    }
    given = {"max_s": MAX_DRAWING_S, "max_bytes": _MAX_DRAWING_BYTES, "path": _library_folder()}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _DRAWING],
            input=json.dumps(given | {"options": options}).encode() + b"\n" + text.encode(),
            capture_output=True,
            timeout=_MAX_WAITING_S,
            check=False,
            start_new_session=True,  # a Ctrl-C is meant for the run, not for this picture
        )
    except subprocess.TimeoutExpired:  # little of its time was spent: the machine is overloaded
        detail = f"not drawn within {_MAX_WAITING_S} s"
        raise SvgError("hostile", detail, is_passing=True) from None
    if done.returncode < 0 and -done.returncode not in _BROKEN_BY:
        detail = f"its drawing was ended by signal {-done.returncode}"
        raise SvgError("hostile", detail, is_passing=True)
    if done.returncode < 0:  # out of time or memory, or the library broke down
        raise SvgError("hostile", f"not drawn within {MAX_DRAWING_S} s and the memory it may take")
    if done.returncode or not done.stdout:
        raise SvgError("corrupt", f"cannot be drawn: {done.stderr.decode(errors='replace')[-500:]}")
    return Image.open(io.BytesIO(done.stdout)).convert("RGBA")


@functools.cache
def _library_folder() -> str:
    spec = importlib.util.find_spec("resvg_py")
    if spec is None or spec.origin is None:
        raise ImportError("resvg_py is not installed: pip install cambrian")
    return str(Path(spec.origin).parents[1])


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
