"""Pictures of waves: standing waves, interference and diffraction."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tools.draw_corpus.style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    Draw,
    encode,
    encode_animation,
    new_panels,
    new_plot,
    plot_svg,
    to_image,
)
from tools.draw_corpus.svg import Drawing

Array = NDArray[np.float64]
LASER_NM = 633


def draw_standing_wave_modes() -> bytes:
    """The first four modes of a string fixed at both ends."""
    fig, ax = new_plot("position along the string (m)", "", width_px=640, height_px=520)
    x = np.linspace(0, 1, 300)
    for mode, color in zip((1, 2, 3, 4), (BLUE, GREEN, ORANGE, RED), strict=True):
        base = 2.6 * (4 - mode)
        shape = np.sin(mode * math.pi * x)
        ax.plot(x, base + shape, color=color)
        ax.plot(x, base - shape, color=color, linestyle="--", linewidth=1.4)
        nodes = np.arange(mode + 1) / mode
        ax.plot(nodes, np.full(mode + 1, base), "o", color=INK, markersize=6, zorder=6)
        ax.text(1.04, base, f"n = {mode}\n{100 * mode} Hz", color=color, va="center")
    ax.set(xlim=(-0.02, 1.2), ylim=(-1.4, 9.2), yticks=[], xticks=np.arange(0, 1.01, 0.25))
    ax.spines["left"].set_visible(False)
    return plot_svg(fig)


def _pipe(art: Drawing, top: float, *, is_closed: bool) -> None:
    left, right, height = 120, 520, 90
    for y in (top, top + height):
        art.line((left, y), (right, y), INK, width=4)
    if is_closed:
        art.line((right, top), (right, top + height), INK, width=7)
    quarter = 1 if is_closed else 2
    for sign in (1, -1):
        points = [
            (
                left + (right - left) * i / 60,
                top + height / 2 + sign * 36 * math.cos(quarter * math.pi / 2 * i / 60),
            )
            for i in range(61)
        ]
        art.polyline(points, BLUE if sign > 0 else RED, width=3)
    node = right if is_closed else (left + right) / 2
    art.circle((node, top + height / 2), 7, INK)


def draw_standing_wave_pipe() -> bytes:
    """Lowest mode of an open pipe and of a pipe closed at one end, same length."""
    art = Drawing(660, 400, "Lowest modes of an open and of a closed pipe")
    art.text((320, 42), "open at both ends: wavelength = 2 L", size=18, anchor="middle")
    _pipe(art, 62, is_closed=False)
    art.text((320, 222), "closed at the right end: wavelength = 4 L", size=18, anchor="middle")
    _pipe(art, 242, is_closed=True)
    art.arrow((320, 362), (120, 362), GREY, width=2)
    art.arrow((320, 362), (520, 362), GREY, width=2)
    art.text((320, 388), "length L", size=17, color=GREY, anchor="middle")
    return art.encode()


def _travel_frame(phase: float) -> Image.Image:
    fig, axes = new_panels(1, width_px=600, height_px=360)
    x = np.linspace(0, 2, 300)
    right = np.sin(2 * math.pi * x - phase)
    left = np.sin(2 * math.pi * x + phase)
    axes.plot(x, 5.2 + right, color=BLUE)
    axes.plot(x, 2.6 + left, color=RED)
    axes.plot(x, -1 + right + left, color=PURPLE, linewidth=2.8)
    axes.plot(np.arange(0, 2.01, 0.5), np.full(5, -1.0), "o", color=INK, zorder=6)
    for y, words, color in ((5.2, "to the right", BLUE), (2.6, "to the left", RED),
                            (-1, "sum", PURPLE)):  # fmt: skip
        axes.text(2.06, y, words, color=color, va="center")
    axes.set(xlim=(0, 2.55), ylim=(-3.3, 6.4), yticks=[], xlabel="position (wavelengths)",
             xticks=np.arange(0, 2.1, 0.5))  # fmt: skip
    return to_image(fig)


def draw_standing_wave() -> bytes:
    """Two equal waves in opposite directions and the standing wave that is their sum."""
    frames = [_travel_frame(math.pi / 6 + 2 * math.pi * i / 8) for i in range(8)]
    return encode_animation(frames, frame_ms=160)


def draw_square_membrane() -> bytes:
    """Displacement of a square membrane that moves in its mode (3, 2)."""
    fig, ax = new_plot("x (cm)", "y (cm)", width_px=560, height_px=470)
    side = np.linspace(0, 30, 301)
    x, y = np.meshgrid(side, side)
    height = np.sin(3 * math.pi * x / 30) * np.sin(2 * math.pi * y / 30)
    shown = ax.imshow(height, extent=(0, 30, 0, 30), origin="lower", cmap="RdBu_r")
    ax.grid(visible=False)
    ax.set(xticks=range(0, 31, 10), yticks=range(0, 31, 10))
    fig.colorbar(shown, label="displacement (mm)")
    return encode(fig, "JPEG")


def draw_double_slit_geometry() -> bytes:
    """Slits, the two paths to a point of the screen, and their difference."""
    art = Drawing(760, 430, "Path difference behind a double slit")
    for x in (40, 62, 84, 106, 128):
        art.line((x, 110), (x, 320), RED, width=2)
    art.text((84, 350), "plane wave", size=16, color=RED, anchor="middle")
    wall, screen, upper, lower = 170, 690, 165, 265
    for top, bottom in ((50, upper - 9), (upper + 9, lower - 9), (lower + 9, 380)):
        art.rect((wall, top), (12, bottom - top), INK)
    art.rect((screen, 50), (12, 330), GREY)
    point = (screen, 100)
    start_a, start_b = (wall + 12, upper), (wall + 12, lower)
    art.line(start_a, point, BLUE, width=3)
    art.line(start_b, point, GREEN, width=3)
    far, near = math.dist(start_b, point), math.dist(start_a, point)
    share = (far - near) / far
    foot = (start_b[0] + share * (point[0] - start_b[0]),
            start_b[1] + share * (point[1] - start_b[1]))  # fmt: skip
    art.line(start_b, foot, ORANGE, width=7)
    art.line(start_a, foot, GREY, width=1.6, dash="5 4")
    art.circle(point, 8, RED)
    art.text((screen - 14, 78), "P", size=20, face="b", anchor="end")
    art.text((400, 126), "r_1", size=20, color=BLUE)
    art.text((430, 215), "r_2", size=20, color=GREEN)
    art.text((230, 290), "path difference", size=17, color=ORANGE)
    art.text((wall + 6, 404), "double slit", size=16, anchor="middle")
    art.text((screen + 6, 404), "screen", size=16, anchor="middle")
    art.text((wall - 12, 222), "d", size=20, anchor="end", face="i")
    return art.encode()


def _fringes(
    position_m: Array, *, slit_m: float, spacing_m: float, slits: int, light_nm: float = LASER_NM
) -> Array:
    """Intensity on a screen at 1 m behind equal slits, 1 at the centre."""
    sine = position_m / np.hypot(position_m, 1.0)
    envelope = np.sinc(slit_m * sine / (light_nm * 1e-9)) ** 2
    step = math.pi * spacing_m * sine / (light_nm * 1e-9)
    wide = np.abs(np.sin(step)) < 1e-9
    ratio = np.sin(slits * step) / np.where(wide, 1, slits * np.sin(step))
    return envelope * np.where(wide, 1, ratio**2)


def _show_strip(
    ax: Axes, intensity: Array, tint: tuple[float, float, float] = (1, 0.12, 0.08)
) -> None:
    """Fill the axes with a coloured pattern from -20 to 20 mm on a dark screen."""
    strip = np.tile(intensity**0.6, (60, 1))
    pixels = np.stack([share * strip for share in tint], axis=-1)
    ax.imshow(pixels, extent=(-20, 20, 0, 1), aspect="auto")
    ax.set(yticks=[], xlim=(-20, 20))
    ax.grid(visible=False)


def draw_double_slit_screen() -> bytes:
    """Two slits of 0.04 mm, 0.20 mm apart, seen on a screen at 1 m."""
    x = np.linspace(-20, 20, 1400)
    fig, ax = new_plot("position on the screen (mm)", "", width_px=720, height_px=230)
    _show_strip(ax, _fringes(x / 1e3, slit_m=4e-5, spacing_m=2e-4, slits=2))
    return encode(fig, "JPEG")


def _two_rows() -> tuple[Figure, Axes, Axes]:
    fig, (upper, lower) = plt.subplots(2, 1, figsize=(6.4, 4.4), dpi=DPI, sharex=True)
    lower.set_xlabel("position on the screen (mm)")
    return fig, upper, lower


def draw_single_slit_screen() -> bytes:
    """One slit of 0.10 mm seen on a screen at 1 m, with its intensity below."""
    x = np.linspace(-20, 20, 1400)
    intensity = _fringes(x / 1e3, slit_m=1e-4, spacing_m=1e-3, slits=1)
    fig, upper, lower = _two_rows()
    _show_strip(upper, intensity)
    lower.plot(x, intensity, color=RED)
    lower.set(ylabel="relative intensity", ylim=(0, 1.05))
    return encode(fig, "JPEG")


def draw_grating_screen() -> bytes:
    """Ten narrow slits, 0.10 mm apart, seen on a screen at 1 m in red and in green light."""
    x = np.linspace(-20, 20, 1400)
    fig, upper, lower = _two_rows()
    for ax, light_nm, tint in (
        (upper, LASER_NM, (1, 0.12, 0.08)),
        (lower, 532, (0.15, 1, 0.25)),
    ):
        intensity = _fringes(x / 1e3, slit_m=8e-6, spacing_m=1e-4, slits=10, light_nm=light_nm)
        _show_strip(ax, intensity, tint)
        ax.set_title(f"{light_nm} nm", fontsize=11)
    return encode(fig, "JPEG")


def draw_double_slit_intensity() -> bytes:
    """Intensity behind the two slits with the envelope of one slit."""
    fig, ax = new_plot("position on the screen (mm)", "relative intensity", width_px=700)
    x = np.linspace(-20, 20, 1600)
    both = _fringes(x / 1e3, slit_m=4e-5, spacing_m=2e-4, slits=2)
    one = _fringes(x / 1e3, slit_m=4e-5, spacing_m=2e-4, slits=1)
    ax.plot(x, both, color=RED, linewidth=1.6, label="double slit")
    ax.plot(x, one, color=INK, linestyle="--", linewidth=1.6, label="envelope (one slit)")
    ax.set(xlim=(-20, 20), ylim=(0, 1.12), xticks=range(-20, 21, 5))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


def draw_airy_disk() -> bytes:
    """Diffraction image of a round hole."""
    fig, ax = new_plot("x (mm)", "y (mm)", width_px=520, height_px=500)
    side = np.linspace(-8, 8, 321)
    x, y = np.meshgrid(side, side)
    argument = math.pi * 2e-4 * np.hypot(x, y) / 1e3 / (LASER_NM * 1e-9)
    angle = (np.arange(200) + 0.5) * math.pi / 200
    bessel = np.zeros_like(argument)
    for a in angle:
        bessel += np.cos(a - argument * math.sin(a)) / 200
    tiny = argument < 1e-6
    pattern = np.where(tiny, 1.0, (2 * bessel / np.where(tiny, 1, argument)) ** 2)
    strip = np.clip(pattern, 0, 1) ** 0.4
    ax.imshow(np.stack([strip, 0.12 * strip, 0.08 * strip], axis=-1), extent=(-8, 8, -8, 8))
    ax.grid(visible=False)
    ax.set(xticks=range(-8, 9, 4), yticks=range(-8, 9, 4))
    return encode(fig, "JPEG")


def draw_ripple_interference() -> bytes:
    """Wave field of two sources in step, 4 cm apart, wavelength 1 cm."""
    fig, ax = new_plot("x (cm)", "y (cm)", width_px=600, height_px=450)
    x, y = np.meshgrid(np.linspace(-10, 10, 500), np.linspace(0, 14, 350))
    field = np.zeros_like(x)
    for source in (-2.0, 2.0):
        distance = np.hypot(x - source, y)
        field += np.cos(2 * math.pi * distance) / np.sqrt(np.maximum(distance, 0.4))
    ax.imshow(field, extent=(-10, 10, 0, 14), origin="lower", cmap="PuOr", vmin=-1, vmax=1)
    ax.plot([-2, 2], [0, 0], "o", color=RED, markersize=11, clip_on=False, zorder=6)
    ax.grid(visible=False)
    return encode(fig, "WEBP")


PICTURES: dict[str, Draw] = {
    "standing_wave_modes.svg": draw_standing_wave_modes,
    "standing_wave_pipe.svg": draw_standing_wave_pipe,
    "standing_wave.gif": draw_standing_wave,
    "square_membrane.jpg": draw_square_membrane,
    "double_slit_geometry.svg": draw_double_slit_geometry,
    "double_slit_screen.jpg": draw_double_slit_screen,
    "single_slit_screen.jpg": draw_single_slit_screen,
    "grating_screen.jpg": draw_grating_screen,
    "double_slit_intensity.png": draw_double_slit_intensity,
    "airy_disk.jpg": draw_airy_disk,
    "ripple_interference.webp": draw_ripple_interference,
}
