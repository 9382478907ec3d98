"""Pictures of chemistry: titration, reaction rates, periodic trends, solubility."""

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
    PALE_RED,
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

WATER = 1e-14
GAS_CONSTANT = 8.314


def titration_ph(base_ml: float, *, acid_constant: float) -> float:
    """pH of 25 mL of 0.10 M acid after some 0.10 M NaOH, from the balance of charges."""
    volume = 25 + base_ml
    acid, sodium = 2.5 / volume, 0.1 * base_ml / volume
    low, high = 0.0, 14.0
    for _ in range(60):
        middle = (low + high) / 2
        proton = 10**-middle
        anion = acid * acid_constant / (acid_constant + proton)
        if sodium + proton > anion + WATER / proton:
            low = middle
        else:
            high = middle
    return low


def draw_titration_strong() -> bytes:
    """pH of hydrochloric acid while sodium hydroxide is added."""
    fig, ax = new_plot("sodium hydroxide added (mL)", "pH")
    volumes = np.linspace(0, 50, 501)
    ax.axhspan(8.2, 10.0, color="#f6dcec")
    label(ax, 1, 9.1, "phenolphthalein turns pink", "#a03a7a", va="center", bbox=None)
    ax.plot(volumes, [titration_ph(v, acid_constant=1e7) for v in volumes], color=RED)
    ax.plot(25, 7, "o", color=INK, markersize=8, zorder=6)
    label(ax, 26.5, 6.6, "equivalence point\n25 mL, pH 7.0", va="center")
    start = titration_ph(0, acid_constant=1e7)
    label(ax, 1, start - 0.75, f"pH {start:.1f} at the start", RED)
    ax.set(xlim=(0, 50), ylim=(0, 14), yticks=range(0, 15, 2))
    return encode(fig, "PNG")


def draw_titration_weak() -> bytes:
    """pH of acetic acid while sodium hydroxide is added."""
    fig, ax = new_plot("sodium hydroxide added (mL)", "pH")
    volumes = np.linspace(0, 50, 501)
    constant = 10**-4.76
    ax.plot(volumes, [titration_ph(v, acid_constant=constant) for v in volumes], color=BLUE)
    for volume, name, shift in ((12.5, "half-way point", (-6.5, 1.5)),
                                (25.0, "equivalence point", (1.5, 0))):  # fmt: skip
        value = titration_ph(volume, acid_constant=constant)
        ax.plot(volume, value, "o", color=INK, markersize=8, zorder=6)
        label(ax, volume + shift[0], value + shift[1], f"{name}\n{volume:g} mL, pH {value:.1f}",
              va="center")  # fmt: skip
    label(ax, 1, 2.1, "pH 2.9 at the start", BLUE)
    ax.set(xlim=(0, 50), ylim=(0, 14), yticks=range(0, 15, 2))
    return encode(fig, "WEBP")


def draw_titration_setup() -> bytes:
    """Burette over a flask with the names of the parts."""
    art = Drawing(520, 600, "Apparatus for a titration")
    art.rect((60, 560), (360, 16), "#b9c2cb", stroke=INK)
    art.rect((88, 30), (12, 530), "#b9c2cb", stroke=INK)
    art.rect((94, 120), (170, 10), "#b9c2cb", stroke=INK)
    art.rect((236, 110), (48, 30), "#87919c", stroke=INK, radius=4)
    art.rect((246, 90), (28, 210), "#cfe3f7")
    art.polyline([(246, 25), (246, 318), (256, 340), (256, 392)], INK, width=2.5)
    art.polyline([(274, 25), (274, 318), (264, 340), (264, 392)], INK, width=2.5)
    art.rect((246, 300), (28, 20), "#cfe3f7")
    for y in range(50, 291, 20):
        art.line((246, y), (258, y), INK, width=1.4)
    art.rect((226, 342), (68, 12), ORANGE, stroke=INK, radius=5)
    art.circle((260, 414), 5, "#7fb2e5")
    art.polygon([(191, 520), (329, 520), (349, 556), (171, 556)], "#f2a9a3")
    art.polyline([(238, 425), (238, 455), (171, 556), (349, 556), (282, 455), (282, 425)], INK,
                 width=3)  # fmt: skip
    for y, words, x in ((80, "burette", 274), (200, "sodium hydroxide", 262), (348, "tap", 294),
                        (470, "flask", 296), (538, "acid and indicator", 320)):  # fmt: skip
        art.line((x, y), (345, y - 4), GREY, width=1.5)
        art.text((352, y + 2), words, size=16)
    art.text((80, 120), "stand", size=16, anchor="end")
    return art.encode()


def _mix(first: str, second: str, share: float) -> str:
    """A colour between two, both written as #rrggbb."""
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * (1 - share) + b * share):02x}" for a, b in pairs)


def draw_indicator_ranges() -> bytes:
    """pH ranges in which four indicators change colour."""
    art = Drawing(720, 360, "Colour changes of four indicators")
    rows = (("methyl orange", 3.1, 4.4, "#d8432f", "#f2c230"),
            ("methyl red", 4.4, 6.2, "#c93345", "#f0cf3c"),
            ("bromothymol blue", 6.0, 7.6, "#efd23f", "#3266b5"),
            ("phenolphthalein", 8.2, 10.0, "#f4f4f4", "#d9519d"))  # fmt: skip
    left, step = 190, 36

    def at(value: float) -> float:
        return left + step * value

    for row, (name, start, end, acid, base) in enumerate(rows):
        top = 40 + 62 * row
        art.rect((at(0), top), (at(start) - at(0), 38), acid)
        for part in range(20):
            share = (part + 0.5) / 20
            mixed = _mix(acid, base, share)
            width = (at(end) - at(start)) / 20
            art.rect((at(start) + part * width, top), (width + 0.4, 38), mixed)
        art.rect((at(end), top), (at(14) - at(end), 38), base)
        art.rect((at(0), top), (at(14) - at(0), 38), stroke=INK)
        art.text((left - 12, top + 25), name, size=16, anchor="end")
        for value in (start, end):
            art.line((at(value), top), (at(value), top + 38), INK, width=1.5, dash="4 3")
        art.text((at((start + end) / 2), top - 7), f"{start:g} to {end:g}", size=14,
                 anchor="middle")  # fmt: skip
    for value in range(0, 15, 2):
        art.line((at(value), 274), (at(value), 284), INK, width=1.6)
        art.text((at(value), 304), f"{value}", size=16, anchor="middle")
    art.text((at(7), 338), "pH", size=18, anchor="middle")
    return art.encode()


def draw_reaction_profile() -> bytes:
    """Energy along a reaction with and without a catalyst."""
    fig, ax = new_plot("course of the reaction", "energy (kJ/mol)")
    x = np.linspace(0, 1, 400)

    def profile(top: float) -> np.ndarray:
        rise = 0.5 - 0.5 * np.cos(math.pi * np.clip((x - 0.15) / 0.33, 0, 1))
        fall = 0.5 - 0.5 * np.cos(math.pi * np.clip((x - 0.48) / 0.37, 0, 1))
        return 50 + (top - 50) * rise - (top - 10) * fall

    ax.plot(x, profile(130), color=RED)
    ax.plot(x, profile(90), color=GREEN, linestyle="--")
    ax.axhline(50, color=GREY, linewidth=1.1, linestyle=":")
    label(ax, 0.57, 128, "without catalyst: barrier 80 kJ/mol", RED, fontsize=10)
    label(ax, 0.455, 64, "with catalyst:\nbarrier 40 kJ/mol", GREEN, ha="center", fontsize=10)
    label(ax, 0.02, 40, "starting materials")
    label(ax, 0.9, 0.5, "products")
    ax.annotate("", (0.93, 10), (0.93, 50), arrowprops={"arrowstyle": "<->", "color": PURPLE})
    label(ax, 0.915, 34, "40 kJ/mol\ngiven off", PURPLE, ha="right", va="center", fontsize=10)
    ax.set(xlim=(0, 1.06), ylim=(-6, 145), xticks=[])
    return plot_svg(fig)


def draw_arrhenius_plot() -> bytes:
    """Logarithm of two rate constants against inverse temperature."""
    fig, ax = new_plot("1000 / temperature (1/K)", "natural logarithm of k (k in 1/s)")
    inverse = np.linspace(2.8, 3.6, 100)
    for barrier, color, factor in ((50e3, BLUE, 15.0), (100e3, RED, 33.0)):
        rate = factor - barrier / GAS_CONSTANT * inverse / 1000
        ax.plot(inverse, rate, color=color, label=f"{barrier / 1e3:.0f} kJ/mol")
        marks = np.linspace(2.9, 3.5, 5)
        ax.plot(marks, factor - barrier / GAS_CONSTANT * marks / 1000, "o", color=color)
    ax.set(xlim=(2.8, 3.6), ylim=(-11.5, 0.5))
    ax.legend(loc="upper right", title="activation energy")
    return encode(fig, "PNG")


def draw_energy_fraction() -> bytes:
    """Energies of molecules at two temperatures with the share above a barrier shaded."""
    fig, ax = new_plot("kinetic energy (kJ/mol)", "share of molecules per kJ/mol (%)")
    energy = np.linspace(0, 40, 500)
    for kelvin, color in ((300, BLUE), (600, RED)):
        scale = GAS_CONSTANT * kelvin / 1000
        curve = 200 / math.sqrt(math.pi) * np.sqrt(energy / scale) / scale * np.exp(-energy / scale)
        ax.plot(energy, curve, color=color, label=f"{kelvin} K")
        ax.fill_between(energy[energy >= 20], curve[energy >= 20], color=color, alpha=0.35)
        ratio = 20 / scale
        above = math.erfc(math.sqrt(ratio)) + 2 * math.sqrt(ratio / math.pi) * math.exp(-ratio)
        y = 2.4 if kelvin == 600 else 4.4
        label(ax, 21, y, f"{kelvin} K: {100 * above:.1f} % above 20 kJ/mol", color)
    ax.axvline(20, color=INK, linestyle="--", linewidth=1.5)
    label(ax, 19.4, 15, "barrier", INK, ha="right")
    ax.set(xlim=(0, 40), ylim=(0, 20.5))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


SYMBOLS = [
    "H",
    "He",
    "Li",
    "Be",
    "B",
    "C",
    "N",
    "O",
    "F",
    "Ne",
    "Na",
    "Mg",
    "Al",
    "Si",
    "P",
    "S",
    "Cl",
    "Ar",
    "K",
    "Ca",
]
IONIZATION_EV = (13.60, 24.59, 5.39, 9.32, 8.30, 11.26, 14.53, 13.62, 17.42, 21.56, 5.14, 7.65,
                 5.99, 8.15, 10.49, 10.36, 12.97, 15.76, 4.34, 6.11)  # fmt: skip
RADIUS_PM = (31, 28, 128, 96, 84, 76, 71, 66, 57, 58, 166, 141, 121, 111, 107, 105, 102, 106, 203,
             176)  # fmt: skip
PAULING = {"H": 2.20, "Li": 0.98, "Be": 1.57, "B": 2.04, "C": 2.55, "N": 3.04, "O": 3.44,
           "F": 3.98, "Na": 0.93, "Mg": 1.31, "Al": 1.61, "Si": 1.90, "P": 2.19, "S": 2.58,
           "Cl": 3.16, "K": 0.82, "Ca": 1.00, "Ga": 1.81, "Ge": 2.01, "As": 2.18, "Se": 2.55,
           "Br": 2.96}  # fmt: skip


def draw_ionization_energy() -> bytes:
    """First ionization energy of the first twenty elements."""
    fig, ax = new_plot("atomic number", "first ionization energy (eV)", width_px=720)
    number = np.arange(1, 21)
    ax.plot(number, IONIZATION_EV, color=GREY, linewidth=1.5)
    for n, value, symbol in zip(number, IONIZATION_EV, SYMBOLS, strict=True):
        color = RED if symbol in ("He", "Ne", "Ar") else INK
        color = BLUE if symbol in ("Li", "Na", "K") else color
        ax.plot(n, value, "o", color=color)
        ax.text(n, value + (-1.6 if color == BLUE else 0.7), symbol, ha="center", color=color)
    label(ax, 20.4, 25, "red: noble gases", RED, ha="right")
    label(ax, 20.4, 23.3, "blue: alkali metals", BLUE, ha="right")
    ax.set(xlim=(0.3, 20.7), ylim=(0, 27.5), xticks=range(2, 21, 2))
    return encode(fig, "PNG")


def draw_atomic_radius() -> bytes:
    """Covalent radius of the first twenty elements as bars."""
    fig, ax = new_plot("", "covalent radius (pm)", width_px=760)
    periods = [1] * 2 + [2] * 8 + [3] * 8 + [4] * 2
    palette = {1: GREY, 2: BLUE, 3: GREEN, 4: ORANGE}
    ax.bar(SYMBOLS, RADIUS_PM, color=[palette[p] for p in periods])
    for i in (2, 8, 10, 16, 18):
        ax.text(i, RADIUS_PM[i] + 4, f"{RADIUS_PM[i]}", ha="center")
    for place, period in ((0.5, 1), (5.5, 2), (13.5, 3), (18.2, 4)):
        ax.text(place, 218, f"period {period}", ha="center", color=palette[period])
    ax.set(ylim=(0, 232), xlim=(-0.7, 19.7))
    ax.grid(axis="x", visible=False)
    return encode(fig, "JPEG")


def draw_electronegativity() -> bytes:
    """Main-group elements of periods 1 to 4 shaded by electronegativity."""
    art = Drawing(700, 430, "Electronegativity of main-group elements")
    rows = (("H",), ("Li", "Be", "B", "C", "N", "O", "F"), ("Na", "Mg", "Al", "Si", "P", "S", "Cl"),
            ("K", "Ca", "Ga", "Ge", "As", "Se", "Br"))  # fmt: skip
    groups = ("1", "2", "13", "14", "15", "16", "17")
    for column, group in enumerate(groups):
        art.text((118 + 78 * column, 30), group, size=16, color=GREY, anchor="middle")
    art.text((20, 30), "group", size=15, color=GREY)
    for row, symbols in enumerate(rows):
        for column, symbol in enumerate(symbols):
            value = PAULING[symbol]
            share = (value - 0.8) / 3.2
            color = "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in
                                  ((245, 214), (244, 78), (238, 52)))  # fmt: skip
            corner = (80 + 78 * column, 44 + 84 * row)
            art.rect(corner, (74, 80), color, stroke=INK, radius=5)
            art.text((corner[0] + 37, corner[1] + 38), symbol, size=24, anchor="middle", face="b")
            art.text((corner[0] + 37, corner[1] + 66), f"{value:.2f}", size=17, anchor="middle")
    for row in range(4):
        art.text((40, 92 + 84 * row), f"{row + 1}", size=17, color=GREY, anchor="middle")
    art.text((80, 410), "darker red: stronger pull on shared electrons", size=16)
    return art.encode()


NITRATE = (13.3, 20.9, 31.6, 45.8, 63.9, 85.5, 110, 138, 169, 202, 246)
CHLORIDE = (27.6, 31.0, 34.0, 37.0, 40.0, 42.6, 45.5, 48.3, 51.1, 54.0, 56.7)
SALT = (35.7, 35.8, 36.0, 36.3, 36.6, 37.0, 37.3, 37.8, 38.4, 39.0, 39.8)


def draw_solubility_curves() -> bytes:
    """Solubility of three salts in water between 0 and 100 C."""
    fig, ax = new_plot("temperature (\u00b0C)", "solubility (g per 100 g of water)")
    warm = np.arange(0, 101, 10)
    for table, name, color in ((NITRATE, "potassium nitrate", RED),
                               (CHLORIDE, "potassium chloride", GREEN),
                               (SALT, "sodium chloride", BLUE)):  # fmt: skip
        ax.plot(warm, table, "o-", color=color, label=name, markersize=5)
    label(ax, 21.5, 19, "32 g at 20 \u00b0C", RED)
    label(ax, 57, 112, "110 g at 60 \u00b0C", RED, ha="right")
    ax.set(xlim=(0, 100), ylim=(0, 260))
    ax.legend(loc="upper left")
    return encode(fig, "PNG")


def draw_oxygen_solubility() -> bytes:
    """Oxygen in water that stands in air, against temperature."""
    fig, ax = new_plot("temperature (\u00b0C)", "dissolved oxygen (mg/L)")
    warm = np.arange(0, 41, 5)
    table = (14.6, 12.8, 11.3, 10.1, 9.1, 8.3, 7.6, 6.9, 6.4)
    ax.bar(warm, table, width=3.4, color=TEAL)
    for x, value in zip(warm, table, strict=True):
        ax.text(x, value + 0.25, f"{value}", ha="center")
    ax.set(ylim=(0, 16), xticks=warm)
    ax.grid(axis="x", visible=False)
    return plot_svg(fig)


def draw_cooling_crystals() -> bytes:
    """Two beakers: a clear warm solution and a cold one with crystals on its floor."""
    art = Drawing(640, 400, "Crystals from a cooling solution")
    for left, fill, words in ((60, PALE_RED, "60 \u00b0C"), (380, PALE_BLUE, "20 \u00b0C")):
        art.rect((left, 130), (200, 190), fill)
        art.polyline([(left, 80), (left, 320), (left + 200, 320), (left + 200, 80)], INK, width=4)
        art.text((left + 100, 62), words, size=22, anchor="middle", face="b")
    for i in range(18):
        x, y = 392 + (i % 9) * 20.5, 304 - 17 * (i // 9) - (4 if i % 2 else 0)
        art.polygon([(x, y + 8), (x + 8, y - 6), (x + 17, y + 8), (x + 9, y + 15)], "#ffffff",
                    stroke=PURPLE, width=1.8)  # fmt: skip
    art.arrow((285, 220), (358, 220), INK, width=3.5, head=15)
    art.text((320, 204), "cool", size=17, anchor="middle")
    art.text((160, 230), "110 g dissolved", size=17, anchor="middle")
    art.text((480, 190), "32 g dissolved", size=17, anchor="middle")
    art.text((480, 262), "78 g of crystals", size=17, color=PURPLE, anchor="middle")
    art.text((320, 372), "potassium nitrate in 100 g of water", size=17, anchor="middle")
    return art.encode()


PICTURES: dict[str, Draw] = {
    "titration_strong.png": draw_titration_strong,
    "titration_weak.webp": draw_titration_weak,
    "titration_setup.svg": draw_titration_setup,
    "indicator_ranges.svg": draw_indicator_ranges,
    "reaction_profile.svg": draw_reaction_profile,
    "arrhenius_plot.png": draw_arrhenius_plot,
    "energy_fraction.png": draw_energy_fraction,
    "ionization_energy.png": draw_ionization_energy,
    "atomic_radius.jpg": draw_atomic_radius,
    "electronegativity.svg": draw_electronegativity,
    "solubility_curves.png": draw_solubility_curves,
    "oxygen_solubility.svg": draw_oxygen_solubility,
    "cooling_crystals.svg": draw_cooling_crystals,
}
