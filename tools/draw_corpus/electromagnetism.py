"""Pictures of electromagnetism: RC circuits and magnetic fields."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.patches import Rectangle

from tools.draw_corpus.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_GREY,
    PURPLE,
    RED,
    Draw,
    encode,
    label,
    new_plot,
    plot_svg,
)
from tools.draw_corpus.svg import Drawing

MU_0 = 4e-7 * math.pi


def draw_rc_circuit() -> bytes:
    """A source, a switch, a resistor and a capacitor in one loop."""
    art = Drawing(640, 400, "Series circuit of a resistor and a capacitor")
    art.polyline([(90, 185), (90, 90), (170, 90)], INK, width=3)
    art.circle((170, 90), 6, INK)
    art.line((170, 90), (230, 58), INK, width=3)
    art.circle((240, 90), 6, INK)
    art.line((240, 90), (320, 90), INK, width=3)
    art.rect((320, 68), (130, 44), "#ffffff", stroke=INK, width=3)
    art.polyline([(450, 90), (550, 90), (550, 190)], INK, width=3)
    art.line((510, 190), (590, 190), BLUE, width=6)
    art.line((510, 216), (590, 216), BLUE, width=6)
    art.polyline([(550, 216), (550, 330), (90, 330), (90, 203)], INK, width=3)
    art.line((55, 185), (125, 185), RED, width=4)
    art.line((72, 203), (108, 203), RED, width=9)
    art.text((140, 201), "9 V", size=20, color=RED)
    art.text((42, 176), "+", size=22, color=RED)
    art.text((200, 122), "switch", size=17, anchor="middle")
    art.text((385, 98), "R", size=22, anchor="middle", face="i")
    art.text((385, 52), "10 k\u03a9", size=18, anchor="middle")
    art.text((496, 210), "C = 100 \u00b5F", size=18, color=BLUE, anchor="end")
    art.arrow((260, 330), (200, 330), GREEN, width=4, head=15)
    art.text((230, 364), "current after closing", size=16, color=GREEN, anchor="middle")
    return art.encode()


def draw_rc_charging() -> bytes:
    """Voltage of a capacitor that charges to 9 V and one that discharges, time constant 1 s."""
    fig, ax = new_plot("time (s)", "capacitor voltage (V)")
    time = np.linspace(0, 5, 300)
    ax.plot(time, 9 * (1 - np.exp(-time)), color=BLUE, label="charging")
    ax.plot(time, 9 * np.exp(-time), color=RED, label="discharging")
    ax.axvline(1, color=GREY, linestyle="--", linewidth=1.4)
    ax.axhline(9, color=GREY, linestyle=":", linewidth=1.4)
    for value, color in ((9 * (1 - math.exp(-1)), BLUE), (9 * math.exp(-1), RED)):
        ax.plot(1, value, "o", color=color, zorder=6)
        label(ax, 1.15, value - 0.1 if color == BLUE else value + 0.15, f"{value:.1f} V", color,
              va="top" if color == BLUE else "bottom")  # fmt: skip
    label(ax, 1.06, 0.35, "one time constant", GREY)
    ax.set(xlim=(0, 5), ylim=(0, 9.9))
    ax.legend(loc="center right")
    return encode(fig, "PNG")


def draw_rc_low_pass() -> bytes:
    """Gain of an RC low-pass filter of 1.6 kHz on logarithmic axes."""
    fig, ax = new_plot("frequency (Hz)", "output / input (dB)")
    hertz = np.geomspace(10, 1e6, 300)
    corner = 1 / (2 * math.pi * 1e3 * 1e-7)
    gain = -10 * np.log10(1 + (hertz / corner) ** 2)
    ax.semilogx(hertz, gain, color=PURPLE)
    ax.plot(corner, -3.01, "o", color=RED, markersize=8, zorder=6)
    label(ax, corner * 1.35, -3, f"corner {corner:.0f} Hz, \u22123 dB", RED)
    label(ax, 30000, -19.5, "\u221220 dB per decade", PURPLE)
    ax.set(xlim=(10, 1e6), ylim=(-60, 5))
    return plot_svg(fig)


def draw_rc_square_response() -> bytes:
    """Square wave at the input of an RC circuit and the rounded wave at its output."""
    fig, ax = new_plot("time (ms)", "voltage (V)", width_px=700)
    step = 0.005
    time = np.arange(0, 20, step)
    source = np.where((time % 10) < 5, 5.0, 0.0)
    output = np.zeros_like(time)
    for i in range(1, len(time)):
        output[i] = output[i - 1] + step * (source[i - 1] - output[i - 1]) / 1.0
    ax.plot(time, source, color=GREY, linewidth=1.8, label="input")
    ax.plot(time, output, color=ORANGE, label="output")
    ax.set(xlim=(0, 20), ylim=(-0.3, 6.2), xticks=range(0, 21, 5))
    ax.legend(loc="upper right", ncols=2)
    return encode(fig, "GIF")


def draw_wire_field() -> bytes:
    """Field lines around a straight wire whose current comes out of the page."""
    art = Drawing(520, 520, "Magnetic field around a straight wire")
    centre = (260, 260)
    for radius in (55, 100, 155, 225):
        art.circle(centre, radius, stroke=BLUE, width=2.5)
        for sign in (1, -1):
            at = (centre[0] + sign * radius, centre[1])
            art.head(at, (at[0], at[1] - sign), BLUE, 15)
    art.circle(centre, 24, "#f4c98b", stroke=INK, width=2.5)
    art.circle(centre, 6, INK)
    art.text((260, 303), "wire", size=15, anchor="middle")
    return art.encode()


def draw_wire_field_strength() -> bytes:
    """Field strength against distance from a wire for 5 A and 10 A."""
    fig, ax = new_plot("distance from the wire (cm)", "magnetic field (\u00b5T)")
    distance = np.linspace(1, 10, 300)
    for amperes, color in ((10, RED), (5, BLUE)):
        field = MU_0 * amperes / (2 * math.pi * distance / 100) * 1e6
        ax.plot(distance, field, color=color, label=f"{amperes} A")
        ax.plot(2, MU_0 * amperes / (2 * math.pi * 0.02) * 1e6, "o", color=color, zorder=6)
        x, y, side = (2.2, 103, "left") if amperes == 10 else (1.85, 33, "right")
        name = f"{10 * amperes} \u00b5T" + (" at 2 cm" if side == "left" else "")
        label(ax, x, y, name, color, ha=side)
    ax.axhline(50, color=GREY, linestyle="--", linewidth=1.3)
    label(ax, 9.9, 53, "typical field of the Earth", GREY, ha="right")
    ax.set(xlim=(0, 10), ylim=(0, 210))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


def _loop_field(x: np.ndarray, y: np.ndarray, loops: np.ndarray, radius: float
                ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Field in the plane y = 0..r of coaxial loops along x, by summing short pieces of wire."""
    bx, by = np.zeros_like(x), np.zeros_like(x)
    for turn in (np.arange(48) + 0.5) * 2 * math.pi / 48:
        c, s = math.cos(turn), math.sin(turn)
        for place in loops:
            dx, dy, dz = x - place, y - radius * c, -radius * s
            cube = (dx**2 + dy**2 + dz**2 + 1e-3) ** 1.5
            bx += (-s * dz - c * dy) / cube
            by += c * dx / cube
    return bx, by


def draw_solenoid_field() -> bytes:
    """Field strength in a lengthwise cut through a coil of twenty turns."""
    fig, ax = new_plot("x (cm)", "y (cm)", width_px=680, height_px=430)
    x, y = np.meshgrid(np.linspace(-9, 9, 181), np.linspace(-5, 5, 101))
    loops = np.linspace(-5, 5, 20)
    bx, by = _loop_field(x, y, loops, 2.0)
    size = np.hypot(bx, by)
    middle = size[50, 90]
    shown = ax.imshow(np.minimum(size / middle, 1.3), extent=(-9, 9, -5, 5), origin="lower",
                      cmap="viridis", interpolation="bilinear")  # fmt: skip
    ax.streamplot(x, y, bx, by, color="white", density=0.9, linewidth=0.9, arrowsize=1.0)
    for side, mark in ((2.0, "o"), (-2.0, "x")):
        ax.plot(loops, np.full(20, side), mark, color=ORANGE, markersize=6, zorder=6)
    fig.colorbar(shown, label="field / field in the middle", shrink=0.85)
    ax.set(xlim=(-9, 9), ylim=(-5, 5), aspect="equal")
    ax.grid(visible=False)
    return encode(fig, "WEBP")


def draw_bar_magnet() -> bytes:
    """Field lines of a bar magnet, taken as a north and a south pole near its ends."""
    fig, ax = new_plot("x (cm)", "y (cm)", width_px=640, height_px=470)
    x, y = np.meshgrid(np.linspace(-10, 10, 201), np.linspace(-7, 7, 141))
    bx, by = np.zeros_like(x), np.zeros_like(x)
    for place, pole in ((3.0, 1.0), (-3.0, -1.0)):
        cube = ((x - place) ** 2 + y**2 + 0.05) ** 1.5
        bx += pole * (x - place) / cube
        by += pole * y / cube
    angles = np.arange(20) * 2 * math.pi / 20 + 0.157
    seeds = np.column_stack([3 + 0.9 * np.cos(angles), 1.05 * np.sin(angles)])
    mirrored = seeds * (-1, 1)
    seeds = np.concatenate([seeds, mirrored[mirrored[:, 0] < -3.5]])
    outside = (np.abs(seeds[:, 1]) > 0.9) | (np.abs(seeds[:, 0]) > 3.5)
    ax.streamplot(x, y, bx, by, color=GREY, linewidth=1.2, start_points=seeds[outside],
                  integration_direction="both", density=6, arrowsize=1.3,
                  broken_streamlines=False)  # fmt: skip
    ax.add_patch(Rectangle((-3.5, -0.9), 3.5, 1.8, color=BLUE, zorder=4))
    ax.add_patch(Rectangle((0, -0.9), 3.5, 1.8, color=RED, zorder=4))
    for place, name in ((-2.6, "S"), (2.6, "N")):
        ax.text(place, 0, name, color="white", fontsize=20, fontweight="bold", ha="center",
                va="center", zorder=5)  # fmt: skip
    ax.set(xlim=(-10, 10), ylim=(-7, 7), aspect="equal")
    ax.set_facecolor(PALE_GREY)
    ax.grid(visible=False)
    return encode(fig, "WEBP")


PICTURES: dict[str, Draw] = {
    "rc_circuit.svg": draw_rc_circuit,
    "rc_charging.png": draw_rc_charging,
    "rc_low_pass.svg": draw_rc_low_pass,
    "rc_square_response.gif": draw_rc_square_response,
    "wire_field.svg": draw_wire_field,
    "wire_field_strength.png": draw_wire_field_strength,
    "solenoid_field.webp": draw_solenoid_field,
    "bar_magnet.webp": draw_bar_magnet,
}
