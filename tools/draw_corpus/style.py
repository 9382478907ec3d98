"""Colours, plot settings and encoders that all pictures of the corpus share.

Plots are drawn by matplotlib's Agg backend without dates or random ids, then written by Pillow
(PNG, JPEG, GIF, WebP) or by matplotlib itself (SVG with glyphs as paths, so that it looks the
same on a machine without fonts).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

INK = "#1f2933"
GRID = "#dde2e8"
GREY = "#87919c"
BLUE = "#2563a8"
RED = "#c8372d"
GREEN = "#2b8a57"
ORANGE = "#e0861a"
PURPLE = "#7a4fa3"
TEAL = "#1795a5"
PALE_BLUE = "#dbe8f6"
PALE_RED = "#f7dcd8"
PALE_GREEN = "#d8eee1"
PALE_ORANGE = "#fbe8cc"
PALE_GREY = "#eef1f4"

_OUTLINE = re.compile(r' d="[^"]*"')
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")

Draw = Callable[[], bytes]
DPI = 100
NUM_COLORS = {"GIF": 64, "PNG": 64}

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "cambrian-corpus",
    "svg.fonttype": "path",
    "path.simplify_threshold": 0.2,
}
matplotlib.rcParams.update(SETTINGS)


def new_plot(
    xlabel: str, ylabel: str, *, width_px: int = 640, height_px: int = 430
) -> tuple[Figure, Axes]:
    """Open a figure with one pair of labelled axes."""
    fig, ax = plt.subplots(figsize=(width_px / DPI, height_px / DPI), dpi=DPI)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return fig, ax


def new_panels(
    num_columns: int, *, width_px: int = 760, height_px: int = 380, **options: Any
) -> tuple[Figure, Any]:
    """Open a figure with several pairs of axes side by side."""
    return plt.subplots(
        1, num_columns, figsize=(width_px / DPI, height_px / DPI), dpi=DPI, **options
    )


def to_image(fig: Figure) -> Image.Image:
    """Draw a figure and close it."""
    fig.tight_layout()
    fig.canvas.draw()
    pixels = np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]
    plt.close(fig)
    return Image.fromarray(pixels)


def plot_svg(fig: Figure) -> bytes:
    """Write a figure as SVG and close it; its size in pixels, as some readers know no points."""
    fig.tight_layout()
    width_px, height_px = fig.get_size_inches() * DPI
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(fig)
    size = f'width="{width_px:.0f}" height="{height_px:.0f}"'
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', size, buffer.getvalue(), count=1)
    return _OUTLINE.sub(lambda path: _LONG_NUMBER.sub(r"\1", path[0]), text).encode()


def encode(picture: Figure | Image.Image, image_format: str) -> bytes:
    """Write a figure or an image as PNG, JPEG, GIF or WebP, without any metadata."""
    image = to_image(picture) if isinstance(picture, Figure) else picture
    options: dict[str, Any] = {
        "PNG": {"optimize": True},
        "JPEG": {"quality": 82, "optimize": True},
        "GIF": {"optimize": True},
        "WEBP": {"quality": 86, "method": 6},
    }[image_format]
    if image_format in ("GIF", "PNG"):
        image = image.quantize(NUM_COLORS[image_format], dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def encode_animation(frames: Sequence[Image.Image], *, frame_ms: int) -> bytes:
    """Write an endless GIF; all frames share the palette of the first."""
    first = frames[0].quantize(32, dither=Image.Dither.NONE)
    rest = [frame.quantize(palette=first, dither=Image.Dither.NONE) for frame in frames[1:]]
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=frame_ms,
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def label(ax: Axes, x: float, y: float, text: str, color: str = INK, **options: Any) -> None:
    """Write a label in data coordinates, on a white ground so that grid lines do not cross it."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85}
    ax.text(x, y, text, color=color, **{"bbox": box, "zorder": 5, **options})
