"""How all pictures of studies look, and how they become text inside a page."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

DENSE, SPARSE, THIRD = "#8a8f98", "#0b6e99", "#c2571a"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched
    "svg.hashsalt": "mirrormask",  # the same numbers give the same bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def svg_text(figure: Figure, title: str) -> str:
    """Return a figure as SVG for use inside a page, where its ids meet nobody else's.

    Args:
        figure: Any.
        title: Read aloud in its place; unique on the page.
    """
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title})
    text = stream.getvalue()
    # Inside a page the XML prolog has no place, and ids of several pictures must not meet.
    text = text[text.index("<svg") :]
    salt = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'id="([^"]+)"', rf'id="{salt}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{salt}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
