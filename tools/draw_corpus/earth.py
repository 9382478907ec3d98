"""Pictures of earth science: the atmosphere and the seasons."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tools.draw_corpus.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_GREY,
    PALE_ORANGE,
    PURPLE,
    RED,
    TEAL,
    Draw,
    encode,
    label,
    new_plot,
    plot_svg,
)
from tools.draw_corpus.svg import Drawing

Array = NDArray[np.float64]
TILT_DEG = 23.44
STANDARD_KM = (0, 11, 20, 32, 47, 51, 71, 84.85, 91, 100)
STANDARD_C = (15, -56.5, -56.5, -44.5, -2.5, -2.5, -58.5, -86.3, -86.3, -78.1)
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MONTH_STARTS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def draw_atmosphere_temperature() -> bytes:
    """Temperature of the standard atmosphere against height, layers shaded."""
    fig, ax = new_plot("temperature (\u00b0C)", "height (km)", width_px=620, height_px=520)
    for low, high, name, color in ((0, 11, "troposphere", PALE_GREEN),
                                   (11, 50, "stratosphere", PALE_BLUE),
                                   (50, 85, "mesosphere", PALE_GREY),
                                   (85, 100, "thermosphere", PALE_ORANGE)):  # fmt: skip
        ax.axhspan(low, high, color=color)
        ax.text(38, max((low + high) / 2, 8), name, ha="right", va="center")
    ax.plot(STANDARD_C, STANDARD_KM, color=RED, linewidth=2.6)
    for celsius, km, words in (
        (15, 0, "15 \u00b0C"),
        (-56.5, 11, "\u221256.5 \u00b0C"),
        (-2.5, 49, "\u22122.5 \u00b0C"),
        (-86.3, 86, "\u221286.3 \u00b0C"),
    ):
        ax.plot(celsius, km, "o", color=RED, clip_on=False, zorder=6)
        is_left = km == 11
        ax.text(celsius + (-3 if is_left else 3), km + 1.6, words, color=RED,
                ha="right" if is_left else "left", va="center")  # fmt: skip
    ax.set(xlim=(-100, 40), ylim=(0, 100), yticks=range(0, 101, 10))
    return encode(fig, "PNG")


def draw_atmosphere_pressure() -> bytes:
    """Air pressure against height with three places marked."""
    fig, ax = new_plot("height (km)", "air pressure (hPa)")
    km = np.linspace(0, 20, 200)
    low = 1013.25 * (1 - 0.0065 * np.minimum(km, 11) * 1000 / 288.15) ** 5.2559
    pressure = low * np.exp(-np.maximum(km - 11, 0) / 6.342)
    ax.plot(km, pressure, color=BLUE)
    for height, name in ((0.0, "sea level"), (5.5, "half of it"), (8.85, "Mount Everest")):
        value = 1013.25 * (1 - 0.0065 * height * 1000 / 288.15) ** 5.2559
        ax.plot(height, value, "o", color=RED, clip_on=False, zorder=6)
        label(ax, height + 0.45, value + 18, f"{name}: {value:.0f} hPa", RED)
    ax.set(xlim=(0, 20), ylim=(0, 1080), xticks=range(0, 21, 5))
    return plot_svg(fig)


def draw_air_composition() -> bytes:
    """Shares of the gases of dry air as one bar with a widened end."""
    art = Drawing(700, 330, "Composition of dry air by volume")
    left, width = 40, 620
    art.rect((left, 50), (width * 0.7808, 70), BLUE)
    art.rect((left + width * 0.7808, 50), (width * 0.2095, 70), RED)
    art.rect((left + width * 0.9903, 50), (width * 0.0097, 70), ORANGE)
    art.text((left + width * 0.39, 93), "nitrogen 78.08 %", size=20, color="#ffffff",
             anchor="middle")  # fmt: skip
    art.text((left + width * 0.885, 93), "oxygen", size=17, color="#ffffff", anchor="middle")
    art.text((left + width * 0.885, 113), "20.95 %", size=14, color="#ffffff", anchor="middle")
    art.line((left + width * 0.9903, 122), (left, 200), GREY, width=1.5)
    art.line((left + width, 122), (left + width, 200), GREY, width=1.5)
    art.rect((left, 200), (width * 0.955, 60), ORANGE)
    art.rect((left + width * 0.955, 200), (width * 0.045, 60), INK)
    art.text((left + width * 0.47, 238), "argon 0.93 %", size=19, anchor="middle")
    art.text((left + width, 292), "carbon dioxide 0.04 %", size=17, anchor="end")
    art.text((left, 34), "all of dry air", size=16, color=GREY)
    art.text((left, 292), "the last hundredth, widened", size=16, color=GREY)
    return art.encode()


def _declination(day: Array) -> Array:
    """Latitude at which the Sun stands overhead, degrees, for a day counted from 1 January."""
    return -TILT_DEG * np.cos(2 * math.pi * (day + 10) / 365.25)


def day_length_h(latitude_deg: float, day: Array) -> Array:
    """Hours between geometric sunrise and sunset."""
    slope = -math.tan(math.radians(latitude_deg)) * np.tan(np.radians(_declination(day)))
    return 24 / math.pi * np.arccos(np.clip(slope, -1, 1))


def draw_day_length() -> bytes:
    """Day length through the year at four latitudes."""
    fig, ax = new_plot("", "hours of daylight", width_px=700)
    day = np.arange(0, 365.0)
    for latitude, color in ((0, GREY), (30, GREEN), (50, BLUE), (70, RED)):
        ax.plot(day, day_length_h(latitude, day), color=color,
                label=f"{latitude}\u00b0 N" if latitude else "equator")  # fmt: skip
    ax.set(xlim=(0, 364), ylim=(-0.5, 25), yticks=range(0, 25, 6), xticks=MONTH_STARTS)
    ax.set_xticklabels(MONTHS, ha="left", fontsize=10)
    ax.legend(loc="lower center", ncols=4, bbox_to_anchor=(0.5, 1.0))
    return encode(fig, "PNG")


def draw_insolation_map() -> bytes:
    """Daily mean sunlight at the top of the atmosphere by latitude and date."""
    fig, ax = new_plot("", "latitude (degrees)", width_px=760, height_px=430)
    day, latitude = np.meshgrid(np.linspace(0, 364, 365), np.linspace(-90, 90, 181))
    sun = np.radians(_declination(day))
    place = np.radians(np.clip(latitude, -89.99, 89.99))
    half = np.arccos(np.clip(-np.tan(place) * np.tan(sun), -1, 1))
    mean = (
        1361
        / math.pi
        * (1 + 0.0334 * np.cos(2 * math.pi * (day - 3) / 365.25))
        * (half * np.sin(place) * np.sin(sun) + np.cos(place) * np.cos(sun) * np.sin(half))
    )
    shown = ax.imshow(mean, extent=(0, 365, -90, 90), origin="lower", aspect="auto",
                      cmap="inferno", vmin=0, vmax=570)  # fmt: skip
    lines = ax.contour(mean, levels=[100, 200, 300, 400, 500], extent=(0, 365, -90, 90),
                       colors="white", linewidths=0.8)  # fmt: skip
    ax.clabel(lines, fontsize=9)
    ax.set(yticks=range(-90, 91, 30), xticks=MONTH_STARTS)
    ax.set_xticklabels(MONTHS, ha="left", fontsize=10)
    ax.grid(visible=False)
    fig.colorbar(shown, label="daily mean (W/m\u00b2)")
    return encode(fig, "JPEG")


def draw_earth_tilt() -> bytes:
    """The Earth at the June and December solstices with its axis leaning the same way."""
    art = Drawing(760, 380, "Tilt of the Earth's axis at the solstices")
    art.path("M120 200A260 100 0 1 0 640 200A260 100 0 1 0 120 200", GREY, width=1.8)
    art.circle((380, 200), 46, "#f5b82e", stroke=ORANGE, width=3)
    art.text((380, 206), "Sun", size=19, anchor="middle")
    lean = math.radians(TILT_DEG)
    for x, name, lit in ((120, "June", 1), (640, "December", -1)):
        art.circle((x, 200), 56, "#32465f", stroke=INK)
        turn = 1 if lit > 0 else 0
        art.path(f"M{x} 144A56 56 0 0 {turn} {x} 256Z", INK, width=1, fill="#8fc1ee")
        dx, dy = math.sin(lean), math.cos(lean)
        art.line((x - 88 * dx, 200 + 88 * dy), (x + 88 * dx, 200 - 88 * dy), RED, width=3)
        art.line((x - 56 * dy, 200 - 56 * dx), (x + 56 * dy, 200 + 56 * dx), "#ffffff", width=2)
        art.line((x, 110), (x, 290), GREY, width=1.5, dash="5 5")
        art.text((x + 88 * dx + 6, 200 - 88 * dy - 4), "N", size=18, color=RED, face="b")
        art.text((x, 330), name, size=20, anchor="middle")
    art.text((126, 98), "23.4\u00b0", size=16, color=RED, anchor="end")
    for y in (170, 200, 230):
        art.arrow((322, y), (205, y), ORANGE, width=2)
        art.arrow((438, y), (555, y), ORANGE, width=2)
    return art.encode()


def draw_noon_height() -> bytes:
    """Height of the noon Sun through the year at 50 degrees north and at the equator."""
    fig, ax = new_plot("", "height of the noon Sun (degrees)", width_px=700)
    day = np.arange(0, 365.0)
    for latitude, color, name in ((50, BLUE, "50\u00b0 N"), (0, ORANGE, "equator")):
        ax.plot(day, 90 - np.abs(latitude - _declination(day)), color=color, label=name)
    label(ax, 172, 56, "63\u00b0 in June", BLUE, ha="center", bbox=None)
    label(ax, 341, 8, "17\u00b0 in\nDecember", BLUE, ha="center", bbox=None)
    ax.set(xlim=(0, 364), ylim=(0, 95), yticks=range(0, 91, 15), xticks=MONTH_STARTS)
    ax.set_xticklabels(MONTHS, ha="left", fontsize=10)
    ax.legend(loc="lower center")
    return encode(fig, "GIF")


def draw_seismogram() -> bytes:
    """Made-up record of a distant earthquake with the P and S waves marked."""
    fig, ax = new_plot("time after the earthquake (s)", "ground motion (\u00b5m)", width_px=760,
                       height_px=320)  # fmt: skip
    time = np.linspace(0, 300, 3000)
    chance = np.random.default_rng(8)
    record = chance.normal(0, 0.6, 3000)
    for start, size, period, fade, color in ((75, 7, 1.9, 18, TEAL), (128.6, 22, 4.1, 32, RED)):
        after = np.maximum(time - start, 0)
        record += size * np.minimum(after / 4, 1) * np.exp(-after / fade) * np.sin(
            2 * math.pi * after / period + 0.4 * np.sin(after / 3))  # fmt: skip
        ax.axvline(start, color=color, linestyle="--", linewidth=1.6)
        ax.text(start - 4, 19, "P" if start == 75 else "S", color=color, fontsize=15, ha="right")
    ax.plot(time, record, color=INK, linewidth=0.9)
    ax.annotate("", (75, -19), (128.6, -19), arrowprops={"arrowstyle": "<->", "color": PURPLE})
    label(ax, 102.5, -23.5, "54 s", PURPLE, ha="center")
    ax.set(xlim=(0, 300), ylim=(-26, 26))
    return encode(fig, "PNG")


def draw_seismic_delay() -> bytes:
    """Arrival times of P and S waves against distance at constant speeds in the crust."""
    fig, ax = new_plot("distance (km)", "travel time (s)")
    distance = np.linspace(0, 500, 100)
    ax.plot(distance, distance / 3.5, color=RED, label="S wave, 3.5 km/s")
    ax.plot(distance, distance / 6.0, color=TEAL, label="P wave, 6.0 km/s")
    ax.annotate("", (300, 50), (300, 300 / 3.5), arrowprops={"arrowstyle": "<->", "color": INK})
    label(ax, 306, 77.5, "36 s at 300 km")
    ax.set(xlim=(0, 500), ylim=(0, 150))
    ax.legend(loc="upper left")
    return plot_svg(fig)


def draw_wave_motion() -> bytes:
    """Grains of rock in a P wave (pressed and stretched) and in an S wave (shaken across)."""
    art = Drawing(720, 380, "Motion of the ground in P waves and S waves")
    for row in range(5):
        for column in range(44):
            base, phase = 50 + 14.5 * column, 2 * math.pi * column / 16
            art.circle((base + 13 * math.sin(phase), 60 + 18 * row), 3.2, TEAL)
            art.circle((base, 250 + 18 * row + 16 * math.sin(phase)), 3.2, RED)
    art.text((40, 36), "P wave: grains move along the path", size=17, color=TEAL)
    art.text((40, 212), "S wave: grains move across the path", size=17, color=RED)
    art.arrow((470, 168), (690, 168), INK)
    art.arrow((470, 366), (690, 366), INK)
    for y in (173, 371):
        art.text((455, y), "direction of travel", size=15, anchor="end")
    return art.encode()


PICTURES: dict[str, Draw] = {
    "atmosphere_temperature.png": draw_atmosphere_temperature,
    "atmosphere_pressure.svg": draw_atmosphere_pressure,
    "air_composition.svg": draw_air_composition,
    "day_length.png": draw_day_length,
    "insolation_map.jpg": draw_insolation_map,
    "earth_tilt.svg": draw_earth_tilt,
    "noon_height.gif": draw_noon_height,
    "seismogram.png": draw_seismogram,
    "seismic_delay.svg": draw_seismic_delay,
    "wave_motion.svg": draw_wave_motion,
}
