"""Pictures of mechanics: pendulum, projectile, oscillator, orbits."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.patches import Circle
from PIL import Image

from tools.draw_corpus.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_BLUE,
    PALE_GREY,
    PALE_ORANGE,
    PURPLE,
    RED,
    TEAL,
    Draw,
    encode,
    encode_animation,
    label,
    new_panels,
    new_plot,
    plot_svg,
    to_image,
)
from tools.draw_corpus.svg import Drawing

EARTH_G = 9.81
MOON_G = 1.62


def draw_pendulum_forces() -> bytes:
    """A pendulum held aside by 30 degrees with the two forces on its bob."""
    art = Drawing(560, 520, "Forces on the bob of a simple pendulum")
    pivot, length = (200, 50), 300
    swing = math.radians(30)
    bob = (pivot[0] + length * math.sin(swing), pivot[1] + length * math.cos(swing))
    art.rect((90, 30), (220, 18), "#c9d1d9", stroke=INK)
    art.line(pivot, (pivot[0], 420), GREY, width=1.8, dash="7 6")
    art.arc(pivot, length, (232, 300), GREY, width=1.4)
    art.line(pivot, bob, INK, width=3)
    art.arc(pivot, 80, (270, 300), PURPLE)
    art.text((190, 150), "\u03b8 = 30\u00b0", size=18, color=PURPLE, anchor="end")
    tension = 130 * math.cos(swing)
    unit = ((pivot[0] - bob[0]) / length, (pivot[1] - bob[1]) / length)
    tip = (bob[0] + tension * unit[0], bob[1] + tension * unit[1])
    art.arrow(bob, tip, GREEN, width=4, head=15)
    art.arrow(bob, (bob[0], bob[1] + 130), RED, width=4, head=15)
    art.circle(bob, 20, BLUE, stroke=INK)
    art.text((tip[0] + 22, tip[1] + 30), "tension", size=19, color=GREEN)
    art.text((bob[0] + 14, bob[1] + 120), "weight mg", size=19, color=RED)
    art.text((bob[0] + 30, bob[1] + 6), "mass m", size=18, color=BLUE)
    art.text((292, 168), "length L", size=18)
    art.text((pivot[0] - 12, 445), "rest position", size=16, color=GREY, anchor="middle")
    return art.encode()


def draw_pendulum_period_length() -> bytes:
    """Period of small swings against length, on the Earth and on the Moon."""
    fig, ax = new_plot("length of the pendulum (m)", "period (s)")
    length = np.linspace(0, 4, 300)
    for gravity, color, name in ((EARTH_G, BLUE, "Earth"), (MOON_G, ORANGE, "Moon")):
        ax.plot(length, 2 * math.pi * np.sqrt(length / gravity), color=color)
        for mark in (1, 4):
            period = 2 * math.pi * math.sqrt(mark / gravity)
            ax.plot(mark, period, "o", color=color, clip_on=False, zorder=6)
            label(ax, mark - 0.06, period + 0.32, f"{period:.1f} s", color, ha="right")
        period = 2 * math.pi * math.sqrt(2.5 / gravity)
        label(ax, 2.5, period - 0.95, f"{name}, g = {gravity} m/s\u00b2", color)
    ax.set(xlim=(0, 4.1), ylim=(0, 11))
    return encode(fig, "PNG")


def _period_ratio(amplitude_deg: float) -> float:
    """Exact period over small-swing period, by the arithmetic-geometric mean."""
    a, b = 1.0, math.cos(math.radians(amplitude_deg) / 2)
    for _ in range(12):
        a, b = (a + b) / 2, math.sqrt(a * b)
    return 1 / a


def draw_pendulum_period_amplitude() -> bytes:
    """How much longer the period is for large swings."""
    fig, ax = new_plot("amplitude (degrees)", "period / period of small swings")
    angles = np.linspace(0, 170, 300)
    ax.plot(angles, [_period_ratio(a) for a in angles], color=RED)
    ax.axhline(1, color=GREY, linestyle="--", linewidth=1.5)
    label(ax, 168, 1.05, "small-angle formula", GREY, ha="right")
    for angle in (30, 90, 150):
        ratio = _period_ratio(angle)
        ax.plot(angle, ratio, "o", color=RED)
        shift = 14 if angle == 30 else -3
        label(ax, angle + shift, ratio + 0.08, f"{angle}\u00b0: {ratio:.3f}", RED, ha="right")
    ax.set(xlim=(0, 172), ylim=(0.9, 2.6), xticks=range(0, 171, 30))
    return encode(fig, "PNG")


def _swing_frame(phase: float) -> Image.Image:
    fig, (left, right) = new_panels(2, width_px=560, height_px=300, width_ratios=[1.5, 1])
    swing = math.radians(40) * math.cos(phase)
    x, y = math.sin(swing), -math.cos(swing)
    left.plot([0, x], [0, y], color=INK)
    left.add_patch(Circle((x, y), 0.1, color=BLUE, zorder=5))
    left.plot([-0.3, 0.3], [0, 0], color=INK, linewidth=5)
    left.plot([0, 0], [0, -1.15], color=GREY, linestyle="--", linewidth=1.2)
    left.set(xlim=(-0.95, 0.95), ylim=(-1.2, 0.1), aspect="equal")
    left.axis("off")
    potential = 100 * (1 - math.cos(swing)) / (1 - math.cos(math.radians(40)))
    right.bar(["potential", "kinetic"], [potential, 100 - potential], color=[ORANGE, GREEN])
    right.set(ylim=(0, 109), ylabel="share of the energy (%)", yticks=range(0, 101, 25))
    right.grid(axis="x", visible=False)
    return to_image(fig)


def draw_pendulum_swing() -> bytes:
    """Animation of a swing of 40 degrees with bars of both energies."""
    frames = [_swing_frame(2 * math.pi * i / 16) for i in range(16)]
    return encode_animation(frames, frame_ms=110)


def draw_projectile_angles() -> bytes:
    """Five throws at 20 m/s without air."""
    fig, ax = new_plot("distance (m)", "height (m)", width_px=720, height_px=420)
    colors = {15: TEAL, 30: GREEN, 45: RED, 60: PURPLE, 75: BLUE}
    for angle, color in colors.items():
        rise = math.radians(angle)
        time = np.linspace(0, 2 * 20 * math.sin(rise) / EARTH_G, 200)
        x = 20 * math.cos(rise) * time
        y = 20 * math.sin(rise) * time - EARTH_G / 2 * time**2
        ax.plot(x, y, color=color)
        top = int(np.argmax(y))
        label(ax, x[top], y[top] + 0.6, f"{angle}\u00b0", color, ha="center", fontsize=12,
              bbox=None)  # fmt: skip
    ax.plot(40.77, 0, "o", color=RED, clip_on=False, zorder=6)
    ax.plot(35.31, 0, "o", color=INK, clip_on=False, zorder=6)
    ax.plot(20.39, 0, "o", color=INK, clip_on=False, zorder=6)
    label(ax, 41.2, 1.0, "40.8 m", RED)
    label(ax, 36.3, 4.9, "35.3 m", INK)
    ax.annotate("", (35.5, 0.4), (37.6, 4.6), arrowprops={"arrowstyle": "-", "color": GREY})
    label(ax, 21.0, 0.7, "20.4 m", INK)
    ax.set(xlim=(0, 46), ylim=(0, 21.5))
    return encode(fig, "PNG")


def draw_projectile_components() -> bytes:
    """Velocity and its two components at five moments of a throw."""
    art = Drawing(760, 400, "Velocity components of a projectile")
    scale, ground = 56, 290
    time = np.linspace(0, 4, 60)
    spots = [(90 + 140 * t, ground - scale * (2.2 * t - 0.55 * t * t) * 1.9) for t in time]
    art.line((50, ground), (735, ground), INK, width=2)
    art.polyline(spots, GREY, width=2, dash="6 5")
    for t in range(5):
        x, y = 90 + 140 * t, ground - scale * (2.2 * t - 0.55 * t * t) * 1.9
        rise = 45 * (2 - t)
        art.arrow((x, y), (x + 62, y), BLUE, width=3.5)
        if rise:
            art.arrow((x, y), (x, y - rise), RED, width=3.5)
        art.circle((x, y), 7, INK)
    art.text((525, 36), "blue: horizontal velocity", size=17, color=BLUE)
    art.text((525, 62), "red: vertical velocity", size=17, color=RED)
    for t, name in enumerate(("1", "2", "3", "4", "5")):
        y = ground - scale * (2.2 * t - 0.55 * t * t) * 1.9
        art.text((90 + 140 * t - 20, y + 8), name, size=17, anchor="middle", face="b")
    art.text((395, 320), "ground", size=16, color=GREY, anchor="middle")
    return art.encode()


def draw_projectile_drag() -> bytes:
    """The same throw of a ball with and without air, drag growing as speed squared."""
    fig, ax = new_plot("distance (m)", "height (m)")
    for factor, color in ((0.0, BLUE), (0.02, RED)):
        x, y, vx, vy = 0.0, 0.0, 30 * math.cos(math.pi / 4), 30 * math.sin(math.pi / 4)
        track = [(x, y)]
        while y >= 0:
            speed = math.hypot(vx, vy)
            vx -= factor * speed * vx * 0.002
            vy -= (EARTH_G + factor * speed * vy) * 0.002
            x, y = x + vx * 0.002, y + vy * 0.002
            track.append((x, max(y, 0)))
        points = np.array(track)
        ax.plot(points[::15, 0], points[::15, 1], color=color)
        ax.plot(points[-1, 0], 0, "o", color=color, clip_on=False, zorder=6)
        label(ax, points[-1, 0] - 1, 1.2, f"{points[-1, 0]:.0f} m", color, ha="right")
        top = points[np.argmax(points[:, 1])]
        name, shift = ("with air drag", -4.5) if factor else ("no air", 0.7)
        label(ax, top[0], top[1] + shift, name, color, ha="center")
    ax.set(xlim=(0, 96), ylim=(0, 26.5))
    return plot_svg(fig)


def _spring(x0: float, x1: float, y: float) -> list[tuple[float, float]]:
    inner = [(x0 + 15 + (x1 - x0 - 30) * i / 16, y + (14 if i % 2 else -14)) for i in range(17)]
    return [(x0, y), (x0 + 15, y), *inner[1:-1], (x1 - 15, y), (x1, y)]


def draw_mass_spring() -> bytes:
    """A block on a spring: pressed, at rest, pulled."""
    art = Drawing(620, 470, "A mass on a spring in three positions")
    rows = ((90, 300, "pressed: force to the right"), (230, 360, "at rest: no force"),
            (370, 420, "pulled: force to the left"))  # fmt: skip
    art.line((360 + 35, 30), (360 + 35, 430), GREY, width=1.6, dash="6 6")
    for y, block_x, words in rows:
        art.rect((40, y - 50), (20, 90), "#c9d1d9", stroke=INK)
        art.line((40, y + 40), (580, y + 40), INK)
        art.polyline(_spring(60, block_x, y), INK, width=2.5)
        art.rect((block_x, y - 32), (70, 70), PALE_BLUE, stroke=BLUE, width=2.5, radius=4)
        art.text((block_x + 35, y + 9), "m", size=22, anchor="middle", face="i")
        art.text((66, y + 64), words, size=16)
    art.arrow((335, 44), (415, 44), RED, width=4, head=15)
    art.arrow((455, 324), (375, 324), RED, width=4, head=15)
    art.text((395, 455), "x = 0", size=17, anchor="middle", color=GREY)
    return art.encode()


def draw_damping_regimes() -> bytes:
    """Return to rest with little, critical and strong damping."""
    fig, ax = new_plot("time (periods of the undamped motion)", "displacement (cm)")
    time = np.linspace(0, 4, 400)
    phase = 2 * math.pi * time
    damped = math.sqrt(1 - 0.1**2)
    under = np.exp(-0.1 * phase) * (np.cos(damped * phase) + 0.1 / damped * np.sin(damped * phase))
    critical = (1 + phase) * np.exp(-phase)
    root = math.sqrt(3**2 - 1)
    over = np.exp(-3 * phase) * (np.cosh(root * phase) + 3 / root * np.sinh(root * phase))
    for curve, color, name in (
        (under, BLUE, "underdamped (\u03b6 = 0.1)"),
        (critical, GREEN, "critical (\u03b6 = 1)"),
        (over, RED, "overdamped (\u03b6 = 3)"),
    ):
        ax.plot(time, 10 * curve, color=color, label=name)
    ax.axhline(0, color=INK, linewidth=1)
    ax.set(xlim=(0, 4), ylim=(-8.5, 10.5))
    ax.legend(loc="upper right")
    return plot_svg(fig)


def draw_resonance_curves() -> bytes:
    """Amplitude of a driven oscillator against driving frequency for three quality factors."""
    fig, ax = new_plot("driving frequency / natural frequency", "amplitude / static displacement")
    ratio = np.linspace(0, 2, 500)
    for quality, color in ((10, RED), (5, ORANGE), (2, BLUE)):
        gain = 1 / np.sqrt((1 - ratio**2) ** 2 + (ratio / quality) ** 2)
        ax.plot(ratio, gain, color=color, label=f"Q = {quality}")
    ax.axvline(1, color=GREY, linestyle="--", linewidth=1.3)
    ax.set(xlim=(0, 2), ylim=(0, 10.8), yticks=range(0, 11, 2))
    ax.legend(loc="upper right")
    return encode(fig, "PNG")


def _solve_kepler(mean: float, eccentricity: float) -> float:
    angle = mean
    for _ in range(60):
        angle -= (angle - eccentricity * math.sin(angle) - mean) / (
            1 - eccentricity * math.cos(angle)
        )
    return angle


def draw_ellipse_equal_areas() -> bytes:
    """An orbit of eccentricity 0.6 with two sectors swept in a tenth of the period each."""
    art = Drawing(720, 580, "Equal areas in equal times")
    centre, a, e = (360, 285), 300, 0.6
    b = a * math.sqrt(1 - e * e)
    sun = (centre[0] - a * e, centre[1])

    def spot(fraction: float) -> tuple[float, float]:
        angle = _solve_kepler(2 * math.pi * fraction, e)
        return (centre[0] - a * math.cos(angle), centre[1] - b * math.sin(angle))

    for start, fill, edge in ((-0.05, PALE_ORANGE, ORANGE), (0.45, PALE_BLUE, BLUE)):
        arc = [spot(start + 0.1 * i / 40) for i in range(41)]
        art.polygon([sun, *arc], fill, stroke=edge, width=2)
    ring = [spot(i / 180) for i in range(181)]
    art.polyline(ring, INK, width=2.5)
    art.circle(sun, 15, "#f5b82e", stroke=ORANGE)
    planet = spot(0.2)
    art.circle(planet, 9, GREEN, stroke=INK)
    art.head(spot(0.26), spot(0.27), INK, 15)
    art.text((sun[0] + 24, sun[1] + 50), "Sun", size=18)
    art.text((planet[0] - 8, planet[1] - 18), "planet", size=18, color=GREEN, anchor="middle")
    art.text((50, 566), "A: near the Sun, fast", size=18, color=ORANGE)
    art.text((670, 566), "B: far from the Sun, slow", size=18, color=BLUE, anchor="end")
    art.text((500, 293), "B", size=24, color=BLUE, face="b")
    art.text((95, 293), "A", size=24, color=ORANGE, face="b")
    return art.encode()


PLANETS = {"Mercury": (0.387, 0.2408), "Venus": (0.723, 0.6152), "Earth": (1.0, 1.0),
           "Mars": (1.524, 1.881), "Jupiter": (5.203, 11.86), "Saturn": (9.537, 29.45),
           "Uranus": (19.19, 84.02), "Neptune": (30.07, 164.8)}  # fmt: skip


def draw_kepler_third_law() -> bytes:
    """Period against mean distance of the eight planets on logarithmic axes."""
    fig, ax = new_plot("semi-major axis (AU)", "orbital period (years)", height_px=460)
    line = np.array([0.25, 50])
    ax.loglog(line, line**1.5, color=GREY, linewidth=1.6)
    for name, (axis_au, period) in PLANETS.items():
        ax.plot(axis_au, period, "o", color=RED if name == "Earth" else BLUE, markersize=8)
        ax.text(axis_au * 1.18, period * 0.78, name, color=RED if name == "Earth" else INK)
    label(ax, 2.2, 30, "slope 3/2", GREY, fontsize=12)
    ax.set(xlim=(0.25, 80), ylim=(0.12, 350))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    return encode(fig, "PNG")


def draw_orbit_eccentricities() -> bytes:
    """Three orbits with one semi-major axis and the star in one focus."""
    fig, ax = new_plot("x (AU)", "y (AU)", width_px=600, height_px=470)
    angle = np.linspace(0, 2 * math.pi, 400)
    for e, color in ((0.0, BLUE), (0.5, GREEN), (0.8, RED)):
        x = np.cos(angle) - e
        ax.plot(x, math.sqrt(1 - e * e) * np.sin(angle), color=color, label=f"e = {e}")
    ax.plot(0, 0, "o", color="#f0a500", markersize=13, markeredgecolor=INK)
    ax.text(0.23, 0.05, "star", fontsize=10)
    ax.set(xlim=(-2, 1.75), ylim=(-1.25, 1.25), aspect="equal")
    ax.legend(loc="upper right")
    return encode(fig, "WEBP")


def draw_mars_geocentric_path() -> bytes:
    """Mars as seen from the Earth over four years, both orbits taken as circles."""
    fig, ax = new_plot("x (AU)", "y (AU)", width_px=540, height_px=520)
    years = np.linspace(-0.9, 3.1, 900)
    earth = np.exp(2j * math.pi * years)
    mars = 1.524 * np.exp(2j * math.pi * years / 1.881)
    path = mars - earth
    ax.plot(path.real, path.imag, color=RED, linewidth=1.8)
    ax.plot(0, 0, "o", color=BLUE, markersize=11)
    ax.text(0.12, 0.1, "Earth", color=BLUE)
    ax.set(xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), aspect="equal")
    ax.set_facecolor(PALE_GREY)
    return encode(fig, "PNG")


PICTURES: dict[str, Draw] = {
    "pendulum_forces.svg": draw_pendulum_forces,
    "pendulum_period_length.png": draw_pendulum_period_length,
    "pendulum_period_amplitude.png": draw_pendulum_period_amplitude,
    "pendulum_swing.gif": draw_pendulum_swing,
    "projectile_angles.png": draw_projectile_angles,
    "projectile_components.svg": draw_projectile_components,
    "projectile_drag.svg": draw_projectile_drag,
    "mass_spring.svg": draw_mass_spring,
    "damping_regimes.svg": draw_damping_regimes,
    "resonance_curves.png": draw_resonance_curves,
    "ellipse_equal_areas.svg": draw_ellipse_equal_areas,
    "kepler_third_law.png": draw_kepler_third_law,
    "orbit_eccentricities.webp": draw_orbit_eccentricities,
    "mars_geocentric_path.png": draw_mars_geocentric_path,
}
