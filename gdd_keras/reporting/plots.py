"""How figures look: SVG with real text, for light and dark pages."""

import contextlib
import io
import logging
import re
import warnings

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from gdd_keras.reporting.records import BASELINES
from gdd_keras.reporting.records import CEILING
from gdd_keras.reporting.records import FULL

__all__ = ["INK", "draw", "label_points", "line_style", "standalone"]

# Notes about fonts and caches are of no use to a reader of reports.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# Becomes the colour of the surrounding text.
INK = "#010203"

_STYLE = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    # Names may hold dollar signs.
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}

# Okabe and Ito, in shades that stand out on white and on black; each method
# keeps its colour and its marker.
_COLORS = {
    "gdd": "#D55E00",
    "dim": "#2F86C6",
    "gan": "#009E73",
    "random": "#8A8A8A",
    "herding": "#CC79A7",
    "k_center": "#C58B00",
    "forgetting": "#3FA7D6",
    "dm": "#9467BD",
    CEILING: INK,
    FULL: INK,
}
_MORE_COLORS = ("#B8860B", "#7F9C3B", "#B24C63", "#5C7AEA", "#8C6D5A")
_MARKERS = "osD^vPX*<>hp"
_DASHES = {"random": "-", "herding": "--", "k_center": ":"}


@contextlib.contextmanager
def draw(width, height):
    """Gives a figure to draw on, and its SVG afterwards.

    Args:
        width: Inches.
        height: Inches.

    Yields:
        `(Figure, list)`; the list holds the SVG text when the block has
        ended.
    """
    result = []
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Names in other scripts: the reader's own fonts show them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
        FigureCanvasSVG(figure)
        yield figure, result
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "gdd_keras"}):
            figure.savefig(
                buffer,
                format="svg",
                # Without these the same figures give the same file.
                metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
            )
    result.append(_clean(buffer.getvalue()))


def line_style(row, methods):
    """Returns how to draw a row, equal in all figures of a report.

    Args:
        row: `Row`.
        methods: Dict of all methods, for those without a colour of their own.

    Returns:
        Dict of keyword arguments for `Axes.errorbar`.
    """
    known = list(_COLORS)
    others = [name for name in methods if name not in _COLORS]
    order = known + others
    index = order.index(row.method) if row.method in order else len(order)
    if row.method in _COLORS:
        color = _COLORS[row.method]
    else:
        color = _MORE_COLORS[(index - len(known)) % len(_MORE_COLORS)]
    dashes = _DASHES.get(row.selection, "-.")
    return {
        "color": color,
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": "--" if row.method == CEILING else dashes,
        "linewidth": 1.0 if row.method in BASELINES else 1.8,
        "markersize": 4.5,
        "capsize": 2.5,
        "elinewidth": 1.0,
    }


def label_points(axes, values):
    """Puts one tick with plain text at each value of a scaled x axis."""
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def standalone(svg):
    """Returns an SVG file that follows the reader's light or dark setting."""
    style = (
        "<style>svg{color:#1f2328}@media (prefers-color-scheme:dark)"
        "{svg{color:#e6edf3}}</style>"
    )
    start = svg.index(">") + 1
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f"{svg[:start]}{style}{svg[start:]}"
    )


def _clean(text):
    """Returns the SVG element alone, without rules for other elements."""
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<style.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace(
        "<svg ", '<svg style="stroke-linejoin:round;stroke-linecap:butt" ', 1
    )
    return text.replace(INK, "currentColor").rstrip() + "\n"
