"""The verdicts of docs/pictures.md, row by row, and that what is kept looks as it should."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures import Verdict, descriptions, main, verdicts_of
from cambrian_data.engine.images import ImagesConfig, PictureError, decode_picture
from cambrian_data.records import DROP_REASONS
from tests.conftest import REPOSITORY
from tests.reference import shared

CONFIG = ImagesConfig()
ROW = re.compile(r"\| `(.+?)` \| .*? \| (\w+) \| (.*) \|")


@pytest.fixture(scope="module")
def folder() -> Path:
    return shared("webdata") / "images"


@pytest.fixture(scope="module")
def verdicts(folder: Path) -> list[Verdict]:
    return verdicts_of(folder, CONFIG)


def test_verdicts_are_those_of_the_documentation(verdicts: list[Verdict]) -> None:
    text = (REPOSITORY / "docs" / "pictures.md").read_text(encoding="utf-8")
    documented = {row[1]: row[2] for row in ROW.finditer(text)}
    assert {one.file: one.outcome for one in verdicts} == documented
    kept = {row[1]: row[3] for row in ROW.finditer(text) if row[2] == "kept"}
    assert {one.file: one.detail for one in verdicts if one.outcome == "kept"} == kept


def test_every_reason_is_of_the_closed_list(verdicts: list[Verdict]) -> None:
    assert {one.outcome for one in verdicts} - {"kept"} <= DROP_REASONS["images"]


def test_every_file_is_described(folder: Path, verdicts: list[Verdict]) -> None:
    about = descriptions(folder)
    assert [one.file for one in verdicts if not about.get(one.file)] == []


def test_program_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (90, 80), "red").save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("<html>|</html>")
    main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| `a.png` |  | kept | PNG 90 x 80, as png |" in printed
    assert "| `b.jpg` |  | not_a_picture | begins with b'&lt;html>" in printed
    assert "2 files in" in printed


# ----------------------------------------------------------------------------- what is kept


def kept(folder: Path, name: str) -> np.ndarray:
    data = decode_picture((folder / name).read_bytes(), CONFIG).data
    return np.asarray(Image.open(io.BytesIO(data)), dtype=float)


def far(one: np.ndarray, other: np.ndarray) -> float:
    """How far two pictures are from each other: the mean difference of their values."""
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize(
    "name",
    [
        *("good/hopper.jpg", "good/hopper.webp", "good/hopper.bmp", "good/hopper.tif"),
        *("good/hopper.gif", "good/avif_hopper.avif", "good/hopper.Lab.tif", "other/hopper.psd"),
        *(f"exif_orientation/hopper_orientation_{n}" for n in ("8.jpg", "6.webp")),
    ],
)
def test_one_portrait_in_all_formats_is_one_picture(folder: Path, name: str) -> None:
    reference = kept(folder, "good/hopper.png")
    assert far(kept(folder, name), reference) < 12
    assert far(kept(folder, name), reference[:, ::-1]) > 30


def test_turned_photo_is_upright(folder: Path) -> None:
    picture = kept(folder, "exif_orientation/portrait-rotated.jpg")
    dark = (picture.mean(axis=2) < 100).nonzero()
    assert picture.shape == (1024, 768, 3)
    top = dark[1][(dark[0] > 200) & (dark[0] < 400)]
    bottom = dark[1][(dark[0] > 700) & (dark[0] < 850)]
    inner = [side[(side > 100) & (side < 668)] for side in (top, bottom)]
    assert np.ptp(inner[0]) > 5 * np.ptp(inner[1])  # an arrow that points up: its tip is wider


def test_print_colours_are_those_of_the_screen(folder: Path) -> None:
    for name in ("good/pil_sample_cmyk.jpg", "good/tiff_strip_cmyk_jpeg.tif"):
        picture = kept(folder, name)
        assert picture[0, 0][0] > 200  # the corner is red, the rest black
        assert picture[0, 0][1:].max() < 60
        assert picture[-1, -1].max() < 40


def test_sixteen_bits_are_neither_black_nor_white(folder: Path) -> None:
    little, big = (kept(folder, f"good/16bit{n}.cropped.tif") for n in ("", ".MM"))
    assert (little == big).all()
    assert 20 < little.mean() < 200


def test_transparent_parts_are_white(folder: Path) -> None:
    for name in ("transparent.png", "transparent.webp", "transparent.gif", "pil123rgba.png"):
        assert kept(folder, f"good/{name}")[-1, 0].min() >= 250
    for name in ("l_trns.png", "i_trns.png", "rgb_trns.png", "p_trns_single.png", "1_trns.png"):
        assert (kept(folder, f"good/{name}")[32, 32] == 255).all()


def test_animations_give_their_first_frame(folder: Path) -> None:
    animations = [*(folder / "good").glob("*.gif"), folder / "good" / "iss634.webp"]
    for path in animations:
        with Image.open(path) as image:
            clear = Image.new("RGBA", image.size, "white")
            first = Image.alpha_composite(clear, image.convert("RGBA")).convert("RGB")
        assert far(kept(folder, f"good/{path.name}"), np.asarray(first, dtype=float)) < 3


# ---------------------------------------------------------------------------------- hostile


def test_mediawiki_vectors_show_nothing_of_what_they_try(folder: Path) -> None:
    vectors = json.loads((folder / "svg_hostile" / "mediawiki_upload_vectors.json").read_bytes())
    assert len(vectors) == 55
    for vector in vectors:
        try:
            picture = decode_picture(vector["svg"].encode(), CONFIG)
        except PictureError as error:
            assert error.reason in DROP_REASONS["images"]
        else:
            assert picture.data.startswith(b"\x89PNG")
    reasons = {n: reason_of(vectors[n]["svg"].encode()) for n in (0, 24, 34, 37, 47)}
    assert set(reasons.values()) == {"hostile"}  # 34 reads a file of the machine, 24 fetches one


SHAPE = '<rect width="90" height="90" fill="red"/>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90">{}</svg>'


def test_svg_attributes_by_declaration_are_refused() -> None:
    """They end the process: lxml frees what the document type owns."""
    for default in ('"alert(1)"', "'alert(1)'", '">"', '"no end'):
        declared = f"<!DOCTYPE svg [<!ATTLIST rect onload CDATA {default}>]>"
        assert reason_of((declared + SVG.format(SHAPE)).encode()) == "hostile"
    xlink = 'xmlns:xlink CDATA #FIXED "http://www.w3.org/1999/xlink"'
    declared = f"<!DOCTYPE svg [<!ATTLIST svg {xlink}>]>"
    used = SHAPE.replace("/>", ' id="r"/><use xlink:href="#r"/>')
    assert decode_picture((declared + SVG.format(used)).encode(), CONFIG).width == 90


def test_svg_encodings_hide_nothing() -> None:
    hidden = '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/hostname">]>'.encode("utf-7")
    hidden = hidden.replace(b"<", b"+ADw-").replace(b">", b"+AD4-")
    start = b'<?xml version="1.0" encoding="{}"?>'
    data = start.replace(b"{}", b"UTF-7") + hidden + SVG.format(SHAPE).encode()
    assert reason_of(data) == "corrupt"
    for name in ("ISO-8859-1", "utf-8", "windows-1252"):
        plain = start.replace(b"{}", name.encode()) + SVG.format(SHAPE).encode()
        assert decode_picture(plain, CONFIG).width == 90


def reason_of(data: bytes) -> str:
    with pytest.raises(PictureError) as error:
        decode_picture(data, CONFIG)
    return error.value.reason


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def noise(side: int = 200) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (side, side, 3))
    return Image.fromarray(values.astype(np.uint8))


def test_a_picture_of_too_many_passes_is_hostile() -> None:
    data = encoded(Image.new("L", (200, 200)), "JPEG", progressive=True)
    end, last = data.rfind(b"\xff\xd9"), data.rfind(b"\xff\xda")
    scan = data[data.rfind(b"\xff\xc4", 0, last) : end]
    assert decode_picture(data[:end] + scan * 5 + data[end:], CONFIG).width == 200
    assert reason_of(data[:end] + scan * 150 + data[end:]) == "hostile"


@pytest.mark.parametrize(
    "filling", [b"\xff\xea\0\2" * 60_000, b"\xff" * 2_000_000, b"\xff\0" * 1_000_000]
)
def test_a_jpeg_of_nothing_but_parts_is_hostile(filling: bytes) -> None:
    data = encoded(noise(), "JPEG")
    assert reason_of(data[:2] + filling + data[2:]) == "hostile"


def test_a_png_or_gif_of_nothing_but_parts_is_hostile() -> None:
    png = encoded(noise(), "PNG")
    empty = b"\0\0\0\0juNk" + b"\0\0\0\0"
    assert reason_of(png[:33] + empty * 60_000 + png[33:]) == "hostile"
    gif = encoded(noise().convert("P"), "GIF")
    start = 13 + 3 * (2 << (gif[10] & 7))
    assert reason_of(gif[:start] + b"!\xfe\1c\0" * 300_000 + gif[start:]) == "hostile"


def test_a_large_picture_in_an_icon_is_too_large() -> None:
    png = encoded(Image.new("L", (3000, 3000)), "PNG")
    entry = b"\0\0\0\0\1\0\x20\0" + len(png).to_bytes(4, "little") + (22).to_bytes(4, "little")
    assert reason_of(b"\0\0\1\0\1\0" + entry + png) == "too_large"


def test_a_jpeg_that_was_transferred_as_text_is_corrupt() -> None:
    data = encoded(noise(), "JPEG", quality=95)
    start = data.rfind(b"\xff\xda")
    head, scan = data[:start], data[start:]
    assert decode_picture(data, CONFIG).width == 200
    for old, new in ((b"\n", b"\r"), (b"\r", b"\n"), (b"\n", b"\r\n")):
        assert reason_of(head + scan.replace(old, new)) == "corrupt"


def bitmap_of_runs(runs: bytes, width: int = 80, height: int = 80) -> bytes:
    numbers = [40, width, height, 1 + (8 << 16), 1, len(runs), 0, 0, 2, 0]
    header = b"".join(number.to_bytes(4, "little") for number in numbers)
    palette = b"\0\0\0\0\xff\xff\xff\0"
    start = (54 + len(palette)).to_bytes(4, "little")
    return b"BM" + bytes(8) + start + header + palette + runs


def test_runs_of_a_bitmap_stay_in_their_rows() -> None:
    row = b"\x28\0\0\4\1\1\1\1\x24\1\0\0"  # 40 black, 4 of their own, 36 white, end of the row
    good = bitmap_of_runs(row * 80 + b"\0\1")
    assert decode_picture(good, CONFIG).format == "BMP"
    assert reason_of(bitmap_of_runs(b"\xff\0" + row * 80 + b"\0\1")) == "corrupt"
    assert reason_of(bitmap_of_runs(row * 82 + b"\0\1")) == "corrupt"
    assert reason_of(bitmap_of_runs(row * 80 + b"\0\1", width=-80 % 2**32)) == "corrupt"
    assert reason_of(bitmap_of_runs(b"\1\0" * 2_100_000)) == "too_large"


def test_what_was_stored_is_stored_again_to_the_byte() -> None:
    for name in ("JPEG", "PNG"):
        once = decode_picture(encoded(noise(100), name), CONFIG)
        assert decode_picture(once.data, CONFIG).sha256 == once.sha256
    photo = decode_picture(encoded(noise(100), "JPEG", quality=60), CONFIG).data
    for other in (photo + b"PK", photo[:2] + b"\xff\xfe\0\3x" + photo[2:]):
        assert decode_picture(other, CONFIG).data not in (photo, other)
    small = ImagesConfig(max_side_px=64)
    assert decode_picture(photo, small).width == 64


def test_large_pictures_are_converted_in_bands_as_in_one() -> None:
    values = np.random.default_rng(1).integers(0, 256, (40, 50, 4)).astype(np.uint8)
    large = Image.fromarray(values).resize((2500, 2000), Image.Resampling.NEAREST)
    exact = ImagesConfig(max_side_px=2500)
    for mode in ("RGBA", "I;16"):
        image = large if mode == "RGBA" else Image.fromarray(np.asarray(large, np.uint16)[..., 0])
        picture = decode_picture(encoded(image, "PNG", compress_level=1), exact)
        stored = np.asarray(Image.open(io.BytesIO(picture.data)))
        whole = Image.new("RGBA", large.size, "white")
        whole.alpha_composite(large)
        expected = whole.convert("RGB") if mode == "RGBA" else image.convert("L").convert("RGB")
        assert (stored == np.asarray(expected)).all()
