"""Pictures of quantum and nuclear physics: thermal light, hydrogen, photoeffect, decay."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from tools.draw_corpus.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_BLUE,
    PALE_GREY,
    PURPLE,
    RED,
    TEAL,
    Draw,
    encode,
    label,
    new_panels,
    new_plot,
    plot_svg,
)
from tools.draw_corpus.svg import Drawing

Array = NDArray[np.float64]
H, C, K_B = 6.62607015e-34, 2.99792458e8, 1.380649e-23
RYDBERG_PER_M = 1.0967758e7
"""Rydberg constant of hydrogen, with the mass of its nucleus taken into account."""


def planck(wave_m: Array, kelvin: float) -> Array:
    """Spectral radiance per wavelength, W / (m^2 sr m)."""
    return 2 * H * C**2 / wave_m**5 / np.expm1(H * C / (wave_m * K_B * kelvin))


def draw_black_body_spectra() -> bytes:
    """Radiance of four black bodies with the peaks joined by a dashed line."""
    fig, ax = new_plot("wavelength (nm)", "spectral radiance (kW per m\u00b2, sr and nm)")
    wave = np.linspace(100, 3000, 500)
    ax.axvspan(380, 750, color=PALE_GREY)
    for kelvin, color in ((6000, BLUE), (5000, GREEN), (4000, ORANGE), (3000, RED)):
        curve = planck(wave * 1e-9, kelvin) * 1e-12
        ax.plot(wave, curve, color=color, label=f"{kelvin} K")
        ax.plot(2.897772e6 / kelvin, curve.max(), "o", color=color, zorder=6)
    temperature = np.linspace(2500, 6000, 100)
    peaks = 2.897772e6 / temperature
    ax.plot(peaks, [planck(np.array([p * 1e-9]), t)[0] * 1e-12
                    for p, t in zip(peaks, temperature, strict=True)],
            color=INK, linestyle="--", linewidth=1.3)  # fmt: skip
    label(ax, 565, 33.3, "visible", GREY, ha="center", bbox=None)
    ax.set(xlim=(0, 3000), ylim=(0, 35))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


def draw_black_body_peak() -> bytes:
    """Wavelength of the peak against temperature."""
    fig, ax = new_plot("temperature (K)", "wavelength of the peak (nm)")
    kelvin = np.linspace(2000, 12000, 300)
    ax.plot(kelvin, 2.897772e6 / kelvin, color=PURPLE)
    for mark, name in ((2800, "lamp filament, 2800 K"), (5772, "Sun, 5772 K"),
                       (9940, "Sirius, 9940 K")):  # fmt: skip
        ax.plot(mark, 2.897772e6 / mark, "o", color=PURPLE, markersize=8)
        label(ax, mark + 180, 2.897772e6 / mark + 45, f"{name}: {2.897772e6 / mark:.0f} nm")
    ax.set(xlim=(2000, 13200), ylim=(0, 1500))
    return plot_svg(fig)


def _lobe(x: Array, centre: float, left: float, right: float) -> Array:
    width = np.where(x < centre, left, right)
    return np.exp(-0.5 * ((x - centre) / width) ** 2)


def _to_rgb(wave_nm: Array, spectrum: Array) -> Array:
    """Linear sRGB of a spectrum, by a sum-of-lobes fit of the CIE 1931 colour matching curves."""
    x = (1.056 * _lobe(wave_nm, 599.8, 37.9, 31.0) + 0.362 * _lobe(wave_nm, 442.0, 16.0, 26.7)
         - 0.065 * _lobe(wave_nm, 501.1, 20.4, 26.2))  # fmt: skip
    y = 0.821 * _lobe(wave_nm, 568.8, 46.9, 40.5) + 0.286 * _lobe(wave_nm, 530.9, 16.3, 31.1)
    z = 1.217 * _lobe(wave_nm, 437.0, 11.8, 36.0) + 0.681 * _lobe(wave_nm, 459.0, 26.0, 13.8)
    xyz = np.array([(spectrum * curve).sum(axis=-1) for curve in (x, y, z)])
    matrix = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415],
                       [0.0557, -0.2040, 1.0570]])  # fmt: skip
    return np.clip(matrix @ xyz, 0, None).T


def _gamma(linear: Array) -> Array:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def draw_black_body_colours() -> bytes:
    """Colour of a black body from 1000 K to 12000 K, at equal brightness of its strongest part."""
    fig, ax = new_plot("temperature (K)", "", width_px=720, height_px=210)
    wave = np.linspace(380, 780, 201)
    kelvin = np.linspace(1000, 12000, 700)
    spectra = np.array([planck(wave * 1e-9, t) for t in kelvin])
    rgb = _to_rgb(wave, spectra)
    rgb = _gamma(rgb / rgb.max(axis=1, keepdims=True))
    ax.imshow(np.tile(rgb, (40, 1, 1)), extent=(1000, 12000, 0, 1), aspect="auto")
    ax.set(yticks=[], xticks=range(1000, 12001, 1000))
    ax.grid(visible=False)
    return encode(fig, "JPEG")


def balmer_nm(upper: int) -> float:
    """Wavelength in vacuum of the line from a level to the second one."""
    return 1e9 / (RYDBERG_PER_M * (1 / 4 - 1 / upper**2))


def draw_balmer_spectrum() -> bytes:
    """The four visible lines of hydrogen on a dark ground."""
    fig, ax = new_plot("wavelength (nm)", "", width_px=760, height_px=240)
    pixels_nm = np.linspace(380, 720, 1360)
    picture = np.zeros((1360, 3))
    wave = np.linspace(380, 780, 401)
    for upper in (3, 4, 5, 6):
        nm = balmer_nm(upper)
        color = _to_rgb(wave, np.exp(-0.5 * ((wave - nm) / 3) ** 2))
        color = np.clip(color / color.max() + 0.12, 0, 1)
        picture += np.exp(-0.5 * ((pixels_nm - nm) / 0.9) ** 2)[:, None] * color
        ax.text(nm, 1.06, f"{nm:.0f} nm", ha={6: "right", 5: "left"}.get(upper, "center"))
    ax.imshow(np.tile(_gamma(np.clip(picture, 0, 1)), (40, 1, 1)), extent=(380, 720, 0, 1),
              aspect="auto")  # fmt: skip
    ax.set(yticks=[], ylim=(0, 1), xticks=range(400, 701, 50))
    ax.grid(visible=False)
    return encode(fig, "JPEG")


def draw_hydrogen_levels() -> bytes:
    """Energy levels of hydrogen with the four Balmer transitions."""
    art = Drawing(640, 560, "Energy levels of hydrogen and the Balmer lines")
    left, right = 120, 500

    def height(level: float) -> float:
        return 60 + 470 * 13.6 / level**2 / 13.6 if level else 60.0

    for level in (1, 2, 3, 4, 5, 6):
        art.line((left, height(level)), (right, height(level)), INK, width=2.5)
    art.line((left, 60), (right, 60), GREY, width=1.5, dash="6 5")
    for level, shift in ((1, 0), (2, 0), (3, 6)):
        y = height(level) + 6 + shift
        art.text((left - 12, y), f"n = {level}", size=17, anchor="end")
        art.text((right + 12, y), f"\u2212{13.6 / level**2:.2f} eV", size=17)
    art.text((left - 12, height(5) + 2), "n = 4, 5, 6", size=15, anchor="end")
    art.text((right + 12, 52), "0 eV: ionized", size=16, color=GREY)
    for x, upper, color, nm in ((190, 3, RED, "656"), (270, 4, TEAL, "486"),
                                (350, 5, BLUE, "434"), (430, 6, PURPLE, "410")):  # fmt: skip
        art.arrow((x, height(upper)), (x, height(2)), color, width=3, head=12)
        art.text((x, height(2) + 26), f"{nm} nm", size=17, color=color, anchor="middle")
    art.text((310, height(2) + 58), "Balmer series", size=18, anchor="middle")
    return art.encode()


def draw_hydrogen_series() -> bytes:
    """Lines of the first three series of hydrogen on a logarithmic wavelength axis."""
    fig, ax = new_plot("wavelength (nm)", "", width_px=720, height_px=360)
    ax.set_xscale("log")
    ax.axvspan(380, 750, color=PALE_GREY)
    for row, (lower, name, color) in enumerate(
        ((3, "Paschen", RED), (2, "Balmer", GREEN), (1, "Lyman", PURPLE))
    ):
        lines = [1e9 / (RYDBERG_PER_M * (1 / lower**2 - 1 / n**2)) for n in range(lower + 1, 40)]
        ax.vlines(lines, row + 0.12, row + 0.88, color=color, linewidth=1.6)
        ax.text(3300, row + 0.5, f"{name}\nto n = {lower}", color=color, va="center")
        ax.text(lines[0] * 1.03, row + 0.5, f"{lines[0]:.0f} nm", color=color, va="center")
    ax.text(535, 3.05, "visible", color=GREY, ha="center")
    ax.set(xlim=(80, 7000), ylim=(0, 3), yticks=[], xticks=[100, 200, 500, 1000, 2000])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda value, _: "")
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    return encode(fig, "PNG")


def draw_photoelectric_threshold() -> bytes:
    """Greatest kinetic energy of photoelectrons against frequency for three metals."""
    fig, ax = new_plot("frequency of the light (10\u00b9\u2074 Hz)", "greatest kinetic energy (eV)")
    for name, work, color in (("caesium", 2.14, RED), ("sodium", 2.36, ORANGE),
                              ("zinc", 3.63, BLUE)):  # fmt: skip
        start = work / 0.41357
        ax.plot([start, 15], [0, 0.41357 * 15 - work], color=color,
                label=f"{name}, work function {work} eV")  # fmt: skip
        ax.plot(start, 0, "o", color=color, clip_on=False, zorder=6)
        side = {"caesium": "right", "sodium": "left"}.get(name, "center")
        label(ax, start, -0.32, f"{start:.1f}", color, ha=side)
    ax.axhline(0, color=INK, linewidth=1)
    ax.set(xlim=(3, 15), ylim=(-0.5, 4.8))
    ax.legend(loc="upper left")
    return encode(fig, "PNG")


def draw_photoelectric_cell() -> bytes:
    """Photocell: light on the cathode, electrons to the anode, ammeter and source."""
    art = Drawing(680, 440, "Circuit of a photocell")
    art.rect((140, 50), (360, 170), PALE_GREY, stroke=GREY, width=2.5, radius=80)
    art.path("M205 90Q175 135 205 180", BLUE, width=9)
    art.line((440, 95), (440, 175), INK, width=8)
    for y, shift in ((112, 0), (135, 30), (158, 10)):
        art.arrow((215 + shift, y), (330 + shift, y), GREEN, width=2.5)
        art.circle((345 + shift, y), 7, GREEN)
    for x, y in ((207, 104), (197, 135), (207, 166)):
        art.arrow((x + 150, y - 92), (x, y), PURPLE, width=2.5, dash="9 5")
    art.text((372, 26), "light", size=18, color=PURPLE)
    art.text((190, 205), "cathode", size=17, color=BLUE, anchor="middle")
    art.text((450, 205), "anode", size=17, anchor="middle")
    art.text((384, 96), "electrons", size=16, color=GREEN, anchor="middle")
    art.polyline([(190, 135), (80, 135), (80, 340), (255, 340)], INK, width=2.5)
    art.polyline([(440, 135), (580, 135), (580, 315)], INK, width=2.5)
    art.circle((580, 260), 26, "#ffffff", stroke=INK, width=2.5)
    art.text((580, 268), "A", size=22, anchor="middle")
    art.polyline([(580, 286), (580, 340), (275, 340)], INK, width=2.5)
    art.line((255, 318), (255, 362), INK, width=2.5)
    art.line((272, 328), (272, 352), INK, width=6)
    art.text((264, 396), "variable voltage source", size=17, anchor="middle")
    return art.encode()


def draw_photoelectric_current() -> bytes:
    """Photocurrent against voltage for two brightnesses of one colour."""
    fig, ax = new_plot("voltage of the anode (V)", "photocurrent (nA)")
    volts = np.linspace(-2.2, 4, 500)
    climb = np.clip((volts + 1.2) / 2.2, 0, 1)
    shape = 1 - (1 - climb) ** 2.5
    ax.plot(volts, 40 * shape, color=BLUE)
    ax.plot(volts, 20 * shape, color=TEAL, linestyle="--")
    label(ax, 2.6, 42, "bright light: 40 nA", BLUE, ha="center")
    label(ax, 2.6, 22, "dim light: 20 nA", TEAL, ha="center")
    ax.plot(-1.2, 0, "o", color=RED, markersize=9, clip_on=False, zorder=6)
    label(ax, -1.75, 6, "stopping\nvoltage\n\u22121.2 V", RED, ha="center")
    ax.axvline(0, color=INK, linewidth=1)
    ax.set(xlim=(-2.2, 4), ylim=(0, 47))
    return encode(fig, "PNG")


def draw_decay_curve() -> bytes:
    """Share of undecayed nuclei against time for iodine-131."""
    fig, ax = new_plot("time (days)", "iodine-131 that is left (%)")
    days = np.linspace(0, 40, 300)
    ax.plot(days, 100 * 0.5 ** (days / 8.02), color=BLUE)
    for lives in range(1, 5):
        day, left = 8.02 * lives, 100 * 0.5**lives
        ax.plot([day, day, 0], [0, left, left], color=GREY, linestyle="--", linewidth=1.2)
        ax.plot(day, left, "o", color=RED, markersize=7, zorder=6)
        label(ax, day + 0.7, left + 3.2, f"{left:g} % after {day:.1f} d", RED)
    ax.set(xlim=(0, 40), ylim=(0, 104))
    return encode(fig, "PNG")


def draw_decay_grid() -> bytes:
    """Four hundred nuclei after zero to three half-lives, drawn by a seeded chance."""
    fig, axes = new_panels(4, width_px=860, height_px=270)
    chance = np.random.default_rng(131)
    alive = np.ones(400, dtype=bool)
    columns, rows = np.divmod(np.arange(400), 20)
    for lives, ax in enumerate(axes):
        ax.scatter(columns[alive], rows[alive], s=22, color=BLUE, linewidths=0)
        ax.scatter(columns[~alive], rows[~alive], s=22, color="#e3d6c3", linewidths=0)
        ax.set(xticks=[], yticks=[], aspect="equal", xlabel=f"{alive.sum()} left")
        ax.set_title(f"{lives} half-li{'fe' if lives == 1 else 'ves'}")
        ax.grid(visible=False)
        alive &= chance.random(400) < 0.5
    return encode(fig, "GIF")


CHAIN = (("U-238", 92, 238), ("Th-234", 90, 234), ("Pa-234", 91, 234), ("U-234", 92, 234),
         ("Th-230", 90, 230), ("Ra-226", 88, 226), ("Rn-222", 86, 222), ("Po-218", 84, 218),
         ("Pb-214", 82, 214), ("Bi-214", 83, 214), ("Po-214", 84, 214), ("Pb-210", 82, 210),
         ("Bi-210", 83, 210), ("Po-210", 84, 210), ("Pb-206", 82, 206))  # fmt: skip


def draw_decay_chain() -> bytes:
    """The uranium series from U-238 to Pb-206 with its alpha and beta steps."""
    fig, ax = new_plot("number of protons", "mass number", width_px=900, height_px=600)
    for (_, z0, a0), (_, z1, a1) in itertools.pairwise(CHAIN):
        color, shrink = (RED, 14) if a1 < a0 else (BLUE, 19)
        ax.annotate("", (z1, a1), (z0, a0), zorder=2,
                    arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2,
                                "shrinkA": shrink, "shrinkB": shrink})  # fmt: skip
    for name, protons, mass in CHAIN:
        last = name == "Pb-206"
        ax.text(protons, mass, name, ha="center", va="center", fontsize=9, zorder=4,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": "#cfead8" if last else PALE_BLUE,
                      "edgecolor": INK})  # fmt: skip
    ax.text(82.2, 237, "red: alpha decay (8 steps)", color=RED)
    ax.text(82.2, 234.6, "blue: beta decay (6 steps)", color=BLUE)
    ax.set(xlim=(81.2, 92.9), ylim=(203, 241), xticks=range(82, 93), yticks=range(206, 239, 4))
    return plot_svg(fig)


PICTURES: dict[str, Draw] = {
    "black_body_spectra.png": draw_black_body_spectra,
    "black_body_peak.svg": draw_black_body_peak,
    "black_body_colours.jpg": draw_black_body_colours,
    "balmer_spectrum.jpg": draw_balmer_spectrum,
    "hydrogen_levels.svg": draw_hydrogen_levels,
    "hydrogen_series.png": draw_hydrogen_series,
    "photoelectric_threshold.png": draw_photoelectric_threshold,
    "photoelectric_cell.svg": draw_photoelectric_cell,
    "photoelectric_current.png": draw_photoelectric_current,
    "decay_curve.png": draw_decay_curve,
    "decay_grid.gif": draw_decay_grid,
    "decay_chain.svg": draw_decay_chain,
}
