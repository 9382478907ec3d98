"""Pictures of thermodynamics: gases, heat engines, phases."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

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
    PALE_RED,
    PURPLE,
    RED,
    Draw,
    encode,
    label,
    new_plot,
    plot_svg,
)
from tools.draw_corpus.svg import Drawing

GAS_CONSTANT = 8.314
DALTON_KG = 1.66054e-27
K_B = 1.380649e-23


def draw_ideal_gas_isotherms() -> bytes:
    """Pressure against volume of one mole at three temperatures."""
    fig, ax = new_plot("volume (litres)", "pressure (kPa)")
    litres = np.linspace(3.4, 50, 300)
    for kelvin, color in ((600, RED), (450, ORANGE), (300, BLUE)):
        ax.plot(litres, GAS_CONSTANT * kelvin / litres, color=color, label=f"{kelvin} K")
    for volume in (10, 20):
        pressure = GAS_CONSTANT * 300 / volume
        ax.plot(volume, pressure, "o", color=BLUE, zorder=6)
        label(ax, volume - 0.5, pressure - 26, f"{pressure:.0f} kPa", BLUE, ha="right")
    ax.set(xlim=(0, 50), ylim=(0, 700))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


def draw_maxwell_boltzmann() -> bytes:
    """Distribution of speeds in nitrogen at three temperatures."""
    fig, ax = new_plot("speed (m/s)", "share of molecules per m/s (%)")
    speed = np.linspace(0, 2000, 400)
    mass = 28.0134 * DALTON_KG
    for kelvin, color in ((300, BLUE), (600, ORANGE), (1200, RED)):
        scale = mass / (2 * K_B * kelvin)
        curve = 4 * math.pi * (scale / math.pi) ** 1.5 * speed**2 * np.exp(-scale * speed**2)
        ax.plot(speed, 100 * curve, color=color, label=f"{kelvin} K")
        peak = math.sqrt(1 / scale)
        top = 100 * 4 / math.sqrt(math.pi) / math.e / peak
        ax.plot(peak, top, "o", color=color, zorder=6)
        label(ax, peak + 25, top + 0.006, f"{peak:.0f} m/s", color)
    ax.set(xlim=(0, 2000), ylim=(0, 0.23))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


def draw_gas_particles() -> bytes:
    """Forty molecules in each half of a box: slow on the cold side, fast on the warm side."""
    fig, ax = new_plot("", "", width_px=700, height_px=380)
    chance = np.random.default_rng(40)
    for left, color, speed in ((0.0, BLUE, 0.03), (1.0, RED, 0.06)):
        grid = np.array([(i, j) for i in range(8) for j in range(5)])
        spots = (grid + 0.5 + chance.uniform(-0.2, 0.2, grid.shape)) / (8.0, 5.0)
        angle = chance.uniform(0, 2 * math.pi, 40)
        x, y = left + 0.07 + 0.86 * spots[:, 0], 0.1 + 0.8 * spots[:, 1]
        ax.quiver(x, y, speed * np.cos(angle), speed * np.sin(angle), color=color, angles="xy",
                  scale_units="xy", scale=0.5, width=0.0035)  # fmt: skip
        ax.scatter(x, y, s=20, color=color, zorder=4)
        name = "300 K" if color == BLUE else "1200 K"
        ax.text(left + 0.5, 1.04, name, color=color, ha="center", fontsize=13)
    ax.plot([0, 2, 2, 0, 0], [0, 0, 1, 1, 0], color=INK, linewidth=3)
    ax.plot([1, 1], [0, 1], color=INK, linewidth=5)
    ax.set(xlim=(-0.03, 2.03), ylim=(-0.03, 1.13))
    ax.axis("off")
    return encode(fig, "WEBP")


def draw_charles_law() -> bytes:
    """Volume of a gas at fixed pressure against Celsius temperature, prolonged to zero volume."""
    fig, ax = new_plot("temperature (\u00b0C)", "volume (litres)")
    warm = np.array([-100.0, 300.0])
    for litres, color in ((3.0, RED), (2.0, GREEN), (1.0, BLUE)):
        ax.plot(warm, litres * (warm + 273.15) / 273.15, color=color,
                label=f"{litres:.0f} L at 0 \u00b0C")  # fmt: skip
        ax.plot([-273.15, -100], [0, litres * 173.15 / 273.15], color=color, linestyle="--",
                linewidth=1.6)  # fmt: skip
    ax.plot(-273.15, 0, "o", color=INK, markersize=9, clip_on=False, zorder=6)
    label(ax, -280, 0.5, "\u2212273 \u00b0C", INK, ha="center")
    ax.set(xlim=(-340, 310), ylim=(0, 6.6))
    ax.legend(loc="upper left")
    return plot_svg(fig)


HOT_K, COLD_K, RATIO = 500.0, 300.0, 5 / 3


def _carnot_corners() -> list[tuple[float, float]]:
    """Volume in litres and pressure in kPa of the corners A, B, C, D for one mole."""
    stretch = (HOT_K / COLD_K) ** (1 / (RATIO - 1))
    volumes = [10.0, 20.0, 20.0 * stretch, 10.0 * stretch]
    kelvins = [HOT_K, HOT_K, COLD_K, COLD_K]
    return [(v, GAS_CONSTANT * t / v) for v, t in zip(volumes, kelvins, strict=True)]


def draw_carnot_pv() -> bytes:
    """Carnot cycle of one mole of a monatomic gas between 500 K and 300 K."""
    fig, ax = new_plot("volume (litres)", "pressure (kPa)", height_px=460)
    corners = _carnot_corners()
    tracks = []
    for (start, end), power, color in zip(
        ((0, 1), (1, 2), (2, 3), (3, 0)), (1, RATIO, 1, RATIO), (RED, GREY, BLUE, GREY),
        strict=True,
    ):  # fmt: skip
        volume = np.linspace(corners[start][0], corners[end][0], 100)
        pressure = corners[start][1] * (corners[start][0] / volume) ** power
        ax.plot(volume, pressure, color=color, linewidth=2.6)
        middle = 50
        ax.annotate(
            "",
            (volume[middle + 4], pressure[middle + 4]),
            (volume[middle], pressure[middle]),
            arrowprops={"arrowstyle": "-|>", "color": color, "mutation_scale": 20},
        )
        tracks.append(np.column_stack([volume, pressure]))
    outline = np.concatenate(tracks)
    ax.fill(outline[:, 0], outline[:, 1], color=PALE_ORANGE)
    for name, (volume, pressure), shift in zip(
        "ABCD", corners, ((-1.3, 12), (0.8, 8), (0.6, 12), (-1.7, -24)), strict=True
    ):
        ax.plot(volume, pressure, "o", color=INK, zorder=6)
        ax.text(volume + shift[0], pressure + shift[1], name, fontsize=13, fontweight="bold")
    label(ax, 15.2, 300, "isotherm 500 K", RED)
    label(ax, 27.5, 62, "isotherm 300 K", BLUE, ha="right")
    ax.text(17.6, 172, "work", color=ORANGE, fontsize=13)
    ax.set(xlim=(5, 46), ylim=(0, 450))
    return encode(fig, "PNG")


def draw_carnot_ts() -> bytes:
    """The same cycle in the plane of entropy and temperature: a rectangle."""
    art = Drawing(640, 440, "Carnot cycle in a temperature-entropy diagram")
    left, right, hot, cold, floor = 200, 480, 90, 210, 390
    art.rect((left, cold), (right - left, floor - cold), PALE_BLUE)
    art.rect((left, hot), (right - left, cold - hot), PALE_ORANGE)
    art.arrow((110, floor), (600, floor), INK)
    art.arrow((110, floor), (110, 40), INK)
    corners = {"A": (left, hot), "B": (right, hot), "C": (right, cold), "D": (left, cold)}
    order = ["A", "B", "C", "D", "A"]
    for start, end, color in zip(order, order[1:], (RED, GREY, BLUE, GREY), strict=False):
        art.ray([corners[start], corners[end]], color, width=3.5)
    for name, (x, y) in corners.items():
        art.circle((x, y), 6, INK)
        art.text((x + (-22 if x == left else 14), y - 8), name, size=19, face="b")
    art.text((100, hot + 6), "500 K", size=17, color=RED, anchor="end")
    art.text((100, cold + 6), "300 K", size=17, color=BLUE, anchor="end")
    for y in (hot, cold):
        art.line((110, y), (left, y), GREY, width=1.4, dash="5 5")
    art.text(((left + right) / 2, 158), "work done", size=18, color=ORANGE, anchor="middle")
    art.text(((left + right) / 2, 316), "heat given off", size=18, color=BLUE, anchor="middle")
    art.text((355, 424), "entropy", size=18, anchor="middle")
    art.text((28, 36), "temperature", size=18)
    return art.encode()


def draw_carnot_efficiency() -> bytes:
    """Greatest efficiency against the temperature of the hot side for two cold sides."""
    fig, ax = new_plot("temperature of the hot side (K)", "greatest efficiency (%)")
    for cold, color in ((300, BLUE), (400, RED)):
        hot = np.linspace(cold, 1500, 300)
        ax.plot(hot, 100 * (1 - cold / hot), color=color, label=f"cold side {cold} K")
        ax.plot(800, 100 * (1 - cold / 800), "o", color=color, zorder=6)
        shift = (-12, 2.5) if cold == 300 else (14, -6)
        label(
            ax,
            800 + shift[0],
            100 * (1 - cold / 800) + shift[1],
            f"{100 * (1 - cold / 800):.1f} %",
            color,
            ha="right" if cold == 300 else "left",
        )
    ax.set(xlim=(300, 1500), ylim=(0, 100))
    ax.legend(loc="upper left")
    return encode(fig, "PNG")


def draw_heat_engine() -> bytes:
    """Flow of energy through an engine that turns 40 percent of the heat into work."""
    art = Drawing(600, 480, "Energy flow of a heat engine")
    art.rect((150, 20), (300, 64), PALE_RED, stroke=RED, width=2.5, radius=8)
    art.rect((150, 396), (300, 64), PALE_BLUE, stroke=BLUE, width=2.5, radius=8)
    art.polygon([(250, 84), (350, 84), (350, 190), (250, 190)], "#eeb4ac")
    art.polygon([(250, 290), (310, 290), (310, 396), (250, 396)], "#b5cde9")
    art.polygon([(350, 210), (470, 210), (470, 198), (510, 230), (470, 262), (470, 250),
                 (350, 250)], "#f4c98b")  # fmt: skip
    art.circle((300, 240), 72, PALE_GREY, stroke=INK, width=2.5)
    art.text((300, 60), "hot side", size=19, color=RED, anchor="middle")
    art.text((300, 436), "cold side", size=19, color=BLUE, anchor="middle")
    art.text((300, 247), "engine", size=19, anchor="middle")
    art.text((364, 140), "heat in: 100 J", size=17, color=RED)
    art.text((326, 350), "heat out: 60 J", size=17, color=BLUE)
    art.text((440, 292), "work: 40 J", size=17, color=ORANGE, anchor="middle")
    return art.encode()


def _vapour_kpa(celsius: np.ndarray) -> np.ndarray:
    """Vapour pressure of liquid water, Antoine form fitted to 101.3 kPa at 100 and to 374 C."""
    low = 10 ** (8.07131 - 1730.63 / (233.426 + celsius)) * 0.133322
    high = 10 ** (8.14019 - 1810.94 / (244.485 + celsius)) * 0.133322
    return np.where(celsius < 100, low, high)


def _phases(ax: Axes, names: tuple[tuple[float, float, str], ...]) -> None:
    """Write the names of the phases into their areas."""
    for x, y, name in names:
        ax.text(x, y, name, ha="center", va="center", fontsize=15, color=INK)


def draw_phase_water() -> bytes:
    """Phase diagram of water with a logarithmic pressure axis."""
    fig, ax = new_plot("temperature (\u00b0C)", "pressure (kPa)", width_px=680, height_px=480)
    boil_t = np.linspace(0.01, 374, 300)
    boil = np.maximum(_vapour_kpa(boil_t), 0.612)
    ice_t = np.linspace(-60, 0.01, 150)
    sublime = 0.61166 * np.exp(22.5 * (1 - 273.16 / (ice_t + 273.15)))
    floor, roof = 1e-3, 1e5
    melt = np.geomspace(0.612, roof, 200)
    melt_t = 0.01 - 9.0 * melt / roof
    ax.fill([-60, *ice_t, *melt_t, -60], [floor, *sublime, *melt, roof], color=PALE_BLUE)
    ax.fill([*melt_t[::-1], *boil_t, 374], [*melt[::-1], *boil, roof], color=PALE_GREEN)
    ax.fill([*ice_t, *boil_t, 374, 450, 450, -60],
            [*sublime, *boil, 22064, 22064, floor, floor], color=PALE_ORANGE)  # fmt: skip
    ax.fill([374, 450, 450, 374], [22064, 22064, roof, roof], color="#e8dff1")
    ax.plot(boil_t, boil, color=RED)
    ax.plot(ice_t, sublime, color=PURPLE)
    ax.plot(melt_t, melt, color=BLUE)
    ax.axhline(101.3, color=GREY, linestyle="--", linewidth=1.4)
    ax.text(446, 128, "101.3 kPa", color=GREY, ha="right")
    for x, y, name, shift in (
        (0.01, 0.612, "triple point\n0.01 \u00b0C, 0.61 kPa", (14, 0.1)),
        (374, 22064, "critical point\n374 \u00b0C, 22.1 MPa", (2, 1500)),
    ):
        ax.plot(x, y, "o", color=INK, markersize=8, zorder=6)
        ax.text(x + shift[0], shift[1], name, ha="left" if x < 1 else "center")
    ax.text(412, 42000, "supercritical", ha="center", fontsize=9)
    ax.plot(100, 101.3, "o", color=RED, zorder=6)
    ax.text(106, 45, "100 \u00b0C", color=RED)
    _phases(ax, ((-34, 900, "solid"), (130, 6000, "liquid"), (260, 3, "gas")))
    ax.set(xlim=(-60, 450), ylim=(floor, roof), yscale="log")
    ax.grid(visible=False)
    return encode(fig, "PNG")


def draw_phase_co2() -> bytes:
    """Phase diagram of carbon dioxide with a logarithmic pressure axis."""
    fig, ax = new_plot("temperature (\u00b0C)", "pressure (MPa)", width_px=640, height_px=460)
    triple, critical = (-56.6, 0.518), (31.0, 7.38)
    cold = np.linspace(-100, triple[0], 100)
    sublime = triple[1] * np.exp(14.74 * (1 - 216.58 / (cold + 273.15)))
    warm = np.linspace(triple[0], critical[0], 100)
    slope = math.log(critical[1] / triple[1]) / (1 / 216.58 - 1 / 304.13)
    boil = triple[1] * np.exp(slope * (1 / 216.58 - 1 / (warm + 273.15)))
    ax.plot(cold, sublime, color=PURPLE)
    ax.plot(warm, boil, color=RED)
    melt = np.geomspace(triple[1], 35, 100)
    ax.plot(triple[0] + 0.19 * (melt - triple[1]), melt, color=BLUE)
    ax.axhline(0.1013, color=GREY, linestyle="--", linewidth=1.4)
    ax.text(48, 0.112, "0.101 MPa", color=GREY, ha="right")
    ax.plot(-78.5, 0.1013, "o", color=PURPLE, zorder=6)
    ax.text(-76, 0.073, "\u221278.5 \u00b0C", color=PURPLE)
    for x, y, words in ((*triple, "triple point\n\u221257 \u00b0C, 0.52 MPa"),
                        (*critical, "critical point\n31 \u00b0C, 7.4 MPa")):  # fmt: skip
        ax.plot(x, y, "o", color=INK, markersize=8, zorder=6)
        ax.text(x + (3 if x < 0 else -3), y * (0.6 if x < 0 else 1.35), words,
                ha="left" if x < 0 else "right")  # fmt: skip
    _phases(ax, ((-82, 4, "solid"), (-28, 4.2, "liquid"), (20, 0.7, "gas")))
    ax.set(xlim=(-100, 50), ylim=(0.02, 35), yscale="log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(visible=False)
    return encode(fig, "GIF")


def draw_heating_curve() -> bytes:
    """Temperature of one kilogram of ice from -50 C against the heat put in."""
    fig, ax = new_plot("heat added (kJ)", "temperature (\u00b0C)", width_px=700)
    steps = ((105, 0, "ice", BLUE), (334, 0, "melting: 334 kJ", PURPLE),
             (419, 100, "water", GREEN), (2257, 100, "boiling: 2257 kJ", RED),
             (101, 150, "steam", ORANGE))  # fmt: skip
    heat, warm = 0.0, -50.0
    for added, end, name, color in steps:
        ax.plot([heat, heat + added], [warm, end], color=color, linewidth=3)
        middle = heat + added / 2
        spots = {"ice": (70, -38, "left"), "water": (middle + 60, 45, "left"),
                 "steam": (heat - 30, 132, "right")}  # fmt: skip
        x, y, side = spots.get(name, (middle, end + 7, "center"))
        if name.startswith("melting"):
            x, y, side = heat + 60, -14, "left"
        label(ax, x, y, name, color, ha=side)
        heat, warm = heat + added, end
    ax.set(xlim=(0, 3300), ylim=(-60, 160), yticks=range(-50, 151, 50))
    return plot_svg(fig)


PICTURES: dict[str, Draw] = {
    "ideal_gas_isotherms.png": draw_ideal_gas_isotherms,
    "maxwell_boltzmann.png": draw_maxwell_boltzmann,
    "gas_particles.webp": draw_gas_particles,
    "charles_law.svg": draw_charles_law,
    "carnot_pv.png": draw_carnot_pv,
    "carnot_ts.svg": draw_carnot_ts,
    "carnot_efficiency.png": draw_carnot_efficiency,
    "heat_engine.svg": draw_heat_engine,
    "phase_water.png": draw_phase_water,
    "phase_co2.gif": draw_phase_co2,
    "heating_curve.svg": draw_heating_curve,
}
