"""Pictures of ray optics: refraction, total reflection, dispersion, thin lenses."""

from __future__ import annotations

import math

import numpy as np

from tools.draw_corpus.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_BLUE,
    PURPLE,
    RED,
    Draw,
    encode,
    label,
    new_plot,
)
from tools.draw_corpus.svg import Drawing

Point = tuple[float, float]
INDEX = {"water": 1.333, "glass": 1.52, "diamond": 2.417}


def draw_refraction_air_water() -> bytes:
    """A ray from air into water at 50 degrees to the normal, with its weak reflection."""
    art = Drawing(640, 500, "Refraction of a ray at a water surface")
    art.rect((0, 250), (640, 250), PALE_BLUE)
    art.line((0, 250), (640, 250), BLUE, width=2.5)
    hit, steep = (320, 250), math.radians(50)
    bent = math.asin(math.sin(steep) / INDEX["water"])
    art.line((320, 30), (320, 470), GREY, width=1.8, dash="7 6")
    entry = (320 - 240 * math.sin(steep), 250 - 240 * math.cos(steep))
    mirror = (320 + 240 * math.sin(steep), entry[1])
    exit_ = (320 + 240 * math.sin(bent), 250 + 240 * math.cos(bent))
    art.ray([entry, hit, exit_], RED, width=3.5)
    art.ray([hit, mirror], ORANGE, width=2, dash="9 5")
    art.arc(hit, 80, (90, 140), INK)
    art.arc(hit, 80, (270, 270 + math.degrees(bent)), INK)
    art.text((272, 150), "50\u00b0", size=19, anchor="middle")
    art.text((352, 356), f"{math.degrees(bent):.0f}\u00b0", size=19, anchor="middle")
    art.text((330, 48), "normal", size=16, color=GREY)
    art.text((30, 232), "air, n = 1.00", size=18)
    art.text((30, 280), "water, n = 1.33", size=18, color=BLUE)
    art.text((505, 160), "reflected ray", size=16, color=ORANGE)
    art.text((490, 440), "refracted ray", size=16, color=RED)
    art.text((135, 92), "incident ray", size=16, color=RED)
    return art.encode()


def draw_refraction_angles() -> bytes:
    """Angle of refraction against angle of incidence for light from air into three materials."""
    fig, ax = new_plot("angle of incidence in air (degrees)", "angle of refraction (degrees)")
    angle = np.linspace(0, 90, 300)
    for (name, index), color in zip(INDEX.items(), (BLUE, GREEN, RED), strict=True):
        bent = np.degrees(np.arcsin(np.sin(np.radians(angle)) / index))
        ax.plot(angle, bent, color=color, label=f"{name}, n = {index:.2f}")
        label(ax, 91, bent[-1], f"{bent[-1]:.1f}\u00b0", color, va="center")
    ax.plot([0, 60], [0, 60], color=GREY, linestyle="--", linewidth=1.5, label="no bending")
    ax.set(xlim=(0, 98), ylim=(0, 60), xticks=range(0, 91, 15))
    ax.legend(loc="upper left")
    return encode(fig, "PNG")


def draw_total_internal_reflection() -> bytes:
    """Three rays from a lamp under water: bent, grazing, totally reflected."""
    art = Drawing(760, 430, "Total internal reflection under water")
    art.rect((0, 170), (760, 260), PALE_BLUE)
    art.line((0, 170), (760, 170), BLUE, width=2.5)
    lamp = (120, 370)
    critical = math.asin(1 / INDEX["water"])
    for angle, color, words in ((math.radians(30), GREEN, "30\u00b0"),
                                (critical, ORANGE, "48.6\u00b0"),
                                (math.radians(62), RED, "62\u00b0")):  # fmt: skip
        hit = (lamp[0] + 200 * math.tan(angle), 170.0)
        art.line((hit[0], 90), (hit[0], 250), GREY, width=1.5, dash="6 5")
        bend = math.sin(angle) * INDEX["water"]
        if color == GREEN:
            out = math.asin(bend)
            end = (hit[0] + 170 * math.sin(out), 170 - 170 * math.cos(out))
        elif color == ORANGE:
            end = (hit[0] + 340, 166)
        else:
            end = (hit[0] + 200 * math.tan(angle) * 0.6, 290)
        art.ray([lamp, hit, end], color, width=3)
        art.text((hit[0] + 8, 245 if color == RED else 205), words, size=17, color=color)
    art.circle(lamp, 13, "#f5b82e", stroke=INK)
    art.text((lamp[0], 412), "lamp", size=17, anchor="middle")
    art.text((20, 150), "air", size=18)
    art.text((20, 200), "water", size=18, color=BLUE)
    return art.encode()


def draw_glass_dispersion() -> bytes:
    """Refractive index of BK7 crown glass over the visible range, by its Sellmeier formula."""
    fig, ax = new_plot("wavelength (nm)", "refractive index of crown glass")
    wave = np.linspace(380, 760, 400)
    index = _bk7(wave)
    strip = np.linspace(1.50, 1.5021, 2)
    for left, right, color in (
        (380, 450, PURPLE),
        (450, 495, BLUE),
        (495, 570, GREEN),
        (570, 590, "#e6c200"),
        (590, 620, ORANGE),
        (620, 760, RED),
    ):
        ax.fill_between([left, right], strip[0], strip[1], color=color)
    ax.plot(wave, index, color=INK)
    for mark, color in ((400, PURPLE), (550, GREEN), (700, RED)):
        value = float(_bk7(np.array([mark]))[0])
        ax.plot(mark, value, "o", color=color, markersize=8, zorder=6)
        shift = -30 if mark == 700 else 8
        label(
            ax,
            mark + shift,
            value + (0.0023 if mark == 700 else 0.0013),
            f"{mark} nm: {value:.4f}",
            color,
        )
    ax.set(xlim=(380, 760), ylim=(1.50, 1.5365))
    return encode(fig, "PNG")


def _bk7(wave_nm: np.ndarray) -> np.ndarray:
    square = (wave_nm / 1000) ** 2
    total = np.ones_like(square)
    for strength, pole in ((1.03961212, 0.00600069867), (0.231792344, 0.0200179144),
                           (1.01046945, 103.560653)):  # fmt: skip
        total = total + strength * square / (square - pole)
    return np.sqrt(total)


def _lens(art: Drawing, x: float, axis_y: float, *, is_converging: bool) -> None:
    top, bottom = axis_y - 140, axis_y + 140
    waist, rim = (26, 4) if is_converging else (6, 24)
    right = f"Q{x + 2 * waist - rim} {axis_y} {x + rim} {bottom}"
    left = f"Q{x - 2 * waist + rim} {axis_y} {x - rim} {top}"
    art.path(f"M{x - rim} {top}L{x + rim} {top}{right}L{x - rim} {bottom}{left}Z", BLUE, width=2,
             fill=PALE_BLUE)  # fmt: skip


def _bench(art: Drawing, lens_x: float, axis_y: float, focal: float) -> None:
    """Optical axis with both foci."""
    art.line((20, axis_y), (740, axis_y), GREY, width=1.6)
    for x in (lens_x - focal, lens_x + focal):
        art.circle((x, axis_y), 5, INK)
        art.text((x, axis_y + 26), "F", size=18, anchor="middle", face="b")


def _rise(start: Point, end: Point, x: float) -> Point:
    """The point at x on the line through two points."""
    return (x, start[1] + (end[1] - start[1]) * (x - start[0]) / (end[0] - start[0]))


def draw_converging_lens_rays() -> bytes:
    """Object at three focal lengths: a real image, inverted, half as large."""
    art = Drawing(760, 400, "Real image of a converging lens")
    lens, axis, focal = 400, 190, 120
    _bench(art, lens, axis, focal)
    _lens(art, lens, axis, is_converging=True)
    tip = (lens - 3 * focal, axis - 100)
    image = (lens + 1.5 * focal, axis + 50)
    art.ray([tip, (lens, tip[1]), _rise((lens, tip[1]), image, 690)], RED)
    art.ray([tip, (lens, axis), _rise(tip, (lens, axis), 690)], GREEN)
    focus_hit = _rise(tip, (lens - focal, axis), lens)
    art.ray([tip, focus_hit, (690, focus_hit[1])], PURPLE)
    art.arrow((tip[0], axis), tip, INK, width=4.5, head=16)
    art.arrow((image[0], axis), image, ORANGE, width=4.5, head=16)
    art.text((tip[0], axis + 28), "object", size=17, anchor="middle")
    art.text((image[0], axis - 12), "image", size=17, color=ORANGE, anchor="middle")
    for x0, x1, words in ((tip[0], lens, "3 f"), (lens, image[0], "1.5 f")):
        art.arrow(((x0 + x1) / 2, 360), (x0 + 2, 360), GREY, width=1.8)
        art.arrow(((x0 + x1) / 2, 360), (x1 - 2, 360), GREY, width=1.8)
        art.text(((x0 + x1) / 2, 386), words, size=17, color=GREY, anchor="middle")
    return art.encode()


def draw_magnifier_rays() -> bytes:
    """Object at half a focal length: a virtual image, upright, twice as large."""
    art = Drawing(760, 420, "Virtual image of a magnifying glass")
    lens, axis, focal = 360, 260, 200
    _bench(art, lens, axis, focal)
    _lens(art, lens, axis, is_converging=True)
    tip, image = (lens - focal / 2, axis - 85), (lens - focal, axis - 170)
    art.ray([tip, (lens, tip[1]), _rise((lens, tip[1]), (lens + focal, axis), 690)], RED)
    art.ray([tip, (lens, axis), _rise(tip, (lens, axis), 535)], GREEN)
    art.line((lens, tip[1]), image, RED, width=2, dash="7 6")
    art.line(tip, image, GREEN, width=2, dash="7 6")
    art.arrow((tip[0], axis), tip, INK, width=4.5, head=16)
    art.arrow((image[0], axis), image, ORANGE, width=4.5, head=16)
    art.text((tip[0] + 6, axis + 26), "object", size=17, anchor="middle")
    art.text((image[0] - 14, 160), "virtual image", size=17, color=ORANGE, anchor="end")
    art.text((30, 370), "solid: path of light", size=16)
    art.text((30, 396), "dashed: drawn backwards", size=16)
    return art.encode()


def draw_diverging_lens_rays() -> bytes:
    """Parallel rays that a diverging lens spreads as if from its focus."""
    art = Drawing(760, 400, "Parallel rays in a diverging lens")
    lens, axis, focal = 360, 200, 170
    _bench(art, lens, axis, focal)
    _lens(art, lens, axis, is_converging=False)
    focus = (lens - focal, axis)
    for height in (-100, -50, 50, 100):
        hit = (lens, axis + height)
        art.ray([(30, axis + height), hit, _rise(focus, hit, 515)], RED)
        art.line(focus, hit, RED, width=1.6, dash="6 6")
    art.text((lens - focal / 2, 390), "focal length f", size=17, color=GREY, anchor="middle")
    art.arrow((lens - focal / 2, 366), (lens, 366), GREY, width=1.8)
    art.arrow((lens - focal / 2, 366), (lens - focal, 366), GREY, width=1.8)
    return art.encode()


def draw_lens_equation() -> bytes:
    """Image distance against object distance of a lens of 10 cm."""
    fig, ax = new_plot("object distance (cm)", "image distance (cm)")
    far, near = np.linspace(10.9, 60, 300), np.linspace(0.01, 9.1, 300)
    ax.plot(far, 10 * far / (far - 10), color=BLUE)
    ax.plot(near, 10 * near / (near - 10), color=RED)
    ax.axvline(10, color=GREY, linestyle="--", linewidth=1.5)
    ax.axhline(0, color=INK, linewidth=1)
    ax.plot(20, 20, "o", color=BLUE, markersize=8)
    label(ax, 21.5, 24, "20 cm, 20 cm", BLUE)
    label(ax, 34, 40, "real image", BLUE, fontsize=12)
    label(ax, 10.8, -40, "virtual image", RED, fontsize=12)
    label(ax, 13.5, 86, "focal length 10 cm", GREY)
    ax.set(xlim=(0, 60), ylim=(-100, 100))
    return encode(fig, "PNG")


PICTURES: dict[str, Draw] = {
    "refraction_air_water.svg": draw_refraction_air_water,
    "refraction_angles.png": draw_refraction_angles,
    "total_internal_reflection.svg": draw_total_internal_reflection,
    "glass_dispersion.png": draw_glass_dispersion,
    "converging_lens_rays.svg": draw_converging_lens_rays,
    "magnifier_rays.svg": draw_magnifier_rays,
    "diverging_lens_rays.svg": draw_diverging_lens_rays,
    "lens_equation.png": draw_lens_equation,
}
