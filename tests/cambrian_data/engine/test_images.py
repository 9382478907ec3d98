"""What is kept of pictures of every format, and what is refused, by content alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cambrian_data.engine import svg
from cambrian_data.engine.images import ImagesConfig, PictureError, StoredPicture, decode_picture
from cambrian_data.records import DROP_REASONS, bytes_id
from tests.reference import shared

CONFIG = ImagesConfig()


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def gradient(width: int = 120, height: int = 80) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = columns * 255 // width, rows * 255 // height
    return Image.fromarray(np.dstack([red, green, red // 2]).astype(np.uint8))


def pixels(picture: StoredPicture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.data)), dtype=int)


def reason_of(data: bytes, config: ImagesConfig = CONFIG) -> str:
    with pytest.raises(PictureError) as error:
        decode_picture(data, config)
    assert error.value.reason in DROP_REASONS["images"]
    return error.value.reason


@pytest.mark.parametrize(
    ("name", "suffix", "tolerance"),
    [
        ("PNG", "png", 0),
        ("BMP", "png", 0),
        ("TIFF", "png", 0),
        ("JPEG", "jpg", 12),
        ("WEBP", "jpg", 12),
    ],
)
def test_formats_keep_their_pixels(name: str, suffix: str, tolerance: int) -> None:
    picture = decode_picture(encoded(gradient(), name), CONFIG)
    assert (picture.format, picture.suffix, picture.width, picture.height) == (
        name,
        suffix,
        120,
        80,
    )
    assert np.abs(pixels(picture) - np.asarray(gradient(), dtype=int)).mean() <= tolerance
    assert picture.sha256 == bytes_id(picture.data)
    assert len(picture.phash) == 16


def test_lossless_webp_is_kept_lossless() -> None:
    picture = decode_picture(encoded(gradient(), "WEBP", lossless=True), CONFIG)
    assert picture.suffix == "png"
    assert (pixels(picture) == np.asarray(gradient())).all()


def test_same_bytes_give_the_same_bytes() -> None:
    data = encoded(gradient(), "JPEG")
    assert decode_picture(data, CONFIG) == decode_picture(data, CONFIG)


def test_exif_orientation_is_applied_and_exif_dropped() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret"
    picture = decode_picture(encoded(gradient(), "JPEG", exif=exif), CONFIG)
    assert (picture.width, picture.height) == (80, 120)
    assert b"secret" not in picture.data


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (70, 70), (255, 0, 0, 0))
    palette = Image.new("P", (70, 70), 3)
    for data in (encoded(clear, "PNG"), encoded(palette, "GIF", transparency=3)):
        assert (pixels(decode_picture(data, CONFIG)) == 255).all()


@pytest.mark.parametrize("top", [65_535, 4_095, 1_000])
def test_sixteen_bits_of_grey_are_scaled(top: int) -> None:
    deep = np.tile(np.linspace(0, top, 100).astype(np.uint16), (80, 1))
    for name in ("PNG", "TIFF"):
        stored = pixels(decode_picture(encoded(Image.fromarray(deep), name), CONFIG))
        assert stored.min() == 0
        assert stored.max() >= 240
        assert len(np.unique(stored)) > 80


def test_cmyk_keeps_its_colour() -> None:
    red = Image.new("CMYK", (90, 90), (0, 255, 255, 0))
    assert np.abs(pixels(decode_picture(encoded(red, "JPEG"), CONFIG)) - [255, 0, 0]).max() <= 30


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (70, 70), colour) for colour in ("blue", "red")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(decode_picture(data, CONFIG)) == [0, 0, 255]).all()


def test_large_pictures_are_scaled_down() -> None:
    picture = decode_picture(encoded(gradient(3000, 1000), "PNG"), CONFIG)
    assert (picture.width, picture.height) == (1600, 533)


def test_reasons() -> None:
    png = encoded(gradient(), "PNG")
    assert reason_of(b"") == "not_a_picture"
    assert reason_of(b"<html><body>Not found</body></html>") == "not_a_picture"
    assert reason_of(encoded(gradient(63, 200), "PNG")) == "too_small"
    assert reason_of(encoded(gradient(1000, 100), "PNG")) == "bad_aspect"
    bitmap = encoded(gradient(), "BMP")
    assert reason_of(bitmap, ImagesConfig(max_bytes=1024)) == "too_large"
    assert (
        reason_of(encoded(gradient(100, 100), "PNG"), ImagesConfig(max_pixels=9000)) == "too_large"
    )
    assert reason_of(png[:-60]) == "corrupt"
    assert reason_of(encoded(gradient(), "JPEG")[:-300]) == "corrupt"
    assert reason_of(png[:12]) == "corrupt"


def test_huge_header_is_refused_before_decoding() -> None:
    data = bytearray(encoded(gradient(), "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    assert reason_of(bytes(data)) == "too_large"


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {}>{}</svg>'
)


def test_svg_is_drawn_at_its_size() -> None:
    text = SVG.format('viewBox="0 0 200 100"', '<rect width="200" height="100" fill="#f00"/>')
    picture = decode_picture(text.encode(), CONFIG)
    assert (picture.format, picture.suffix, picture.width, picture.height) == (
        "SVG",
        "png",
        200,
        100,
    )
    assert (pixels(picture) == [255, 0, 0]).all()


def test_svg_of_any_size_is_bounded() -> None:
    text = SVG.format(
        'width="1000000000" height="1000000000"', '<rect width="100%" height="100%"/>'
    )
    assert decode_picture(text.encode(), CONFIG).width == CONFIG.max_side_px


def test_svg_text_is_drawn() -> None:
    text = SVG.format('width="100" height="100"', '<text x="5" y="60" font-size="40">Text</text>')
    assert pixels(decode_picture(text.encode(), CONFIG)).min() < 50


def test_svg_reaches_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(encoded(Image.new("RGB", (90, 90), "red"), "PNG"))
    for address in (f"file://{tmp_path}/p.png", f"{tmp_path}/p.png", "http://127.0.0.1:9/p.png"):
        inside = (
            f'<rect width="90" height="90" fill="blue"/><image xlink:href="{address}" width="90"/>'
        )
        drawn = pixels(
            decode_picture(SVG.format('width="90" height="90"', inside).encode(), CONFIG)
        )
        assert (drawn == [0, 0, 255]).all()


def test_svg_scripts_are_not_kept() -> None:
    inside = "<script>alert(1)</script><circle cx='50' cy='50' r='40' onload='x()'/>"
    picture = decode_picture(SVG.format('width="100" height="100"', inside).encode(), CONFIG)
    assert picture.data.startswith(b"\x89PNG")
    assert b"alert" not in picture.data


def test_svg_entities_and_expansions_are_refused() -> None:
    nested = '<!DOCTYPE svg [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'
    outside = '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
    shape = SVG.format('width="100" height="100"', "<text>&a;</text>")
    assert reason_of((nested + shape).encode()) == "hostile"
    assert reason_of((outside + shape).encode()) == "hostile"
    groups = '<g id="g0"><rect width="1" height="1"/></g>'
    for level in range(1, 8):
        uses = f'<use xlink:href="#g{level - 1}"/>' * 10
        groups += f'<g id="g{level}">{uses}</g>'
    assert reason_of(SVG.format('width="100" height="100"', groups).encode()) == "hostile"


def test_svg_with_short_flat_entities_is_drawn() -> None:
    text = '<!DOCTYPE svg [<!ENTITY ink "#ff0000">]>' + SVG.format(
        'width="80" height="80"', '<rect width="80" height="80" fill="&ink;"/>'
    )
    assert (pixels(decode_picture(text.encode(), CONFIG)) == [255, 0, 0]).all()


RECT = '<rect width="80" height="80" fill="#f00"/>'


@pytest.mark.parametrize("attributes", ['viewBox="0 0 .e5 .e5"', 'viewBox="0 0 1e5 -.e5 5"',
                                        'viewBox="0 0 1e999 1e999"', 'width="1e-30" height="1"',
                                        f'viewBox="{"1." * 1_000_000}"'])  # fmt: skip
def test_svg_sizes_that_are_none_are_refused_or_ignored(attributes: str) -> None:
    reason = reason_of(SVG.format(attributes, RECT).encode())
    assert reason in ("corrupt", "too_small", "bad_aspect")


def test_svg_width_of_many_digits_is_ignored() -> None:
    text = SVG.format(f'width="{"9" * 1_000_000}!" height="80"', RECT)
    assert decode_picture(text.encode(), CONFIG).width == 300


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<svg " + b"<!ENTITY a" * 200_000, "hostile"),
        (b"<svg ><!ENTITY a '" + b"' " * 500_000 + b">", "hostile"),
        (b"<svg >" + b'<!ENTITY a "b">' * 200_000, "hostile"),
        (b"<svg >" + b"<g/>" * 1_000_000, "hostile"),
        (b"<svg >" + b" " * 21_000_000, "too_large"),
        (b"<?x?>" + b"<!DOCTYPE a[" * 5400 + b"<svg ", "not_a_picture"),
        (b"<!--" * 16_000 + b"<svg ", "not_a_picture"),
        (b"<?" * 32_000 + b"<svg ", "not_a_picture"),
        (b"<" * 5_000_000, "not_a_picture"),
    ],
    ids=["entities", "quotes", "many entities", "tags", "bytes", "doctypes", "comments", "pis",
         "brackets"],
)  # fmt: skip
def test_hostile_svg_is_refused_by_linear_checks(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize(
    "inside",
    [
        f'<g fill="{"url(#" * 120_000}"/>',
        f"<style>{'url(' * 400_000}</style>",
        f"<style>url({' ' * 1_000_000}#</style>",
        f"<style>{'@import ' * 400_000}</style>",
    ],
    ids=["references", "addresses", "blanks", "imports"],
)
def test_svg_with_long_addresses_is_drawn(inside: str) -> None:
    text = SVG.format('width="80" height="80"', inside + RECT)
    assert (pixels(decode_picture(text.encode(), CONFIG)) == [255, 0, 0]).all()


def test_svg_styles_keep_what_is_inside_the_file() -> None:
    paint = "<linearGradient id='p'><stop stop-color='#00f'/></linearGradient>"
    style = "<style>rect { fill: url('#p') } @import url(http://x.org/a.css);</style>"
    shape = '<rect width="80" height="80"/>'
    text = SVG.format('width="80" height="80"', paint + style + shape)
    assert (pixels(decode_picture(text.encode(), CONFIG)) == [0, 0, 255]).all()


def test_svg_that_takes_too_long_to_draw_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg, "MAX_DRAWING_S", 1)
    noise = '<filter id="f"><feTurbulence baseFrequency="0.9" numOctaves="20000"/></filter>'
    shape = '<rect width="1600" height="1600" filter="url(#f)"/>'
    assert reason_of(SVG.format('width="1600" height="1600"', noise + shape).encode()) == "hostile"


def test_empty_svg_is_no_picture() -> None:
    assert reason_of(SVG.format('width="100" height="100"', "").encode()) == "corrupt"
    assert reason_of(SVG.format('width="0" height="0"', "<rect/>").encode()) == "corrupt"
    assert reason_of(b'<svg xmlns="http://www.w3.org/2000/svg"><g>') == "corrupt"


@pytest.mark.parametrize("folder", ["good", "exif_orientation", "other", "svg"])
def test_saved_pictures_are_stored_or_too_small(folder: str) -> None:
    refused = {}
    for path in sorted((shared("webdata") / "images" / folder).iterdir()):
        try:
            picture = decode_picture(path.read_bytes(), CONFIG)
            assert min(picture.width, picture.height) >= CONFIG.min_side_px
        except PictureError as error:
            refused[path.name] = error.reason
    allowed = {"comma_separated_viewbox.svg": "corrupt"}  # it holds no shape at all
    assert {name: r for name, r in refused.items() if r != "too_small"}.items() <= allowed.items()


@pytest.mark.parametrize("folder", ["corrupt", "bomb", "hostile", "svg_hostile"])
def test_saved_hostile_files_are_refused_or_harmless(folder: str) -> None:
    for path in sorted((shared("webdata") / "images" / folder).iterdir()):
        try:
            picture = decode_picture(path.read_bytes(), CONFIG)
        except PictureError as error:
            assert error.reason in DROP_REASONS["images"]
        else:
            assert max(picture.width, picture.height) <= CONFIG.max_side_px
            assert b"alert(" not in picture.data


def test_a_drawing_that_is_broken_off_from_outside_may_be_tried_again(monkeypatch):
    """A kill of the drawing's process says nothing of the picture."""
    ended = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    monkeypatch.setattr("cambrian_data.engine.svg._DRAWING", ended)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><rect width="9"/></svg>'
    with pytest.raises(PictureError, match="signal 15") as met:
        decode_picture(svg, ImagesConfig())
    assert met.value.is_passing
