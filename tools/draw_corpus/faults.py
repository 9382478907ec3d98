"""Pictures that belong to planted faults: each must be refused, for the reason in corpus.json."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from tools.draw_corpus.style import BLUE, GREEN, ORANGE, PURPLE, RED, Draw, encode, new_plot


def draw_tuning_fork_decay() -> bytes:
    """A fading tone, cut off in the middle of the file: `corrupt`."""
    fig, ax = new_plot("time (s)", "displacement (\u00b5m)")
    time = np.linspace(0, 6, 1200)
    ax.plot(time, 40 * np.exp(-time / 2) * np.cos(2 * math.pi * 4 * time), color=PURPLE)
    ax.set(xlim=(0, 6), ylim=(-42, 42))
    whole = encode(fig, "PNG")
    return whole[: len(whole) // 2]


def draw_prism_icon() -> bytes:
    """A prism of 24 by 24 pixels: `too_small`."""
    image = Image.new("RGB", (24, 24), "white")
    pen = ImageDraw.Draw(image)
    pen.polygon([(12, 3), (22, 20), (2, 20)], outline=BLUE)
    pen.line([(0, 14), (8, 12)], fill=RED)
    pen.line([(16, 12), (23, 16)], fill=ORANGE)
    return encode(image, "PNG")


def draw_molar_volume() -> bytes:
    """Molar volume of an ideal gas at 101.3 kPa, on a page without any caption: `no_caption`."""
    fig, ax = new_plot("temperature (K)", "volume of one mole (litres)")
    kelvin = np.linspace(100, 600, 100)
    ax.plot(kelvin, 8.314 * kelvin / 101.325, color=GREEN)
    ax.set(xlim=(100, 600), ylim=(0, 52))
    return encode(fig, "PNG")


def draw_circular_speed() -> bytes:
    """Speed on a circular orbit around the Earth, in a section of few words: `short_text`."""
    fig, ax = new_plot("distance from the centre of the Earth (1000 km)", "speed (km/s)")
    radius = np.linspace(6.4, 50, 300)
    ax.plot(radius, np.sqrt(398600 / (radius * 1000)), color=BLUE)
    ax.plot(42.16, 3.07, "o", color=RED, markersize=8)
    ax.text(42.16, 3.45, "geostationary: 3.1 km/s", color=RED, ha="center")
    ax.set(xlim=(0, 50), ylim=(0, 9))
    return encode(fig, "PNG")


PICTURES: dict[str, Draw] = {
    "tuning_fork_decay.png": draw_tuning_fork_decay,
    "prism_icon.png": draw_prism_icon,
    "molar_volume.png": draw_molar_volume,
    "circular_speed.png": draw_circular_speed,
}
