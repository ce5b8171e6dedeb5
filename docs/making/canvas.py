"""Boxes, arrows and words as SVG.

A drawing has a light ground of its own, so that it can be read on a dark page, too; and it fetches nothing, fonts
included.
"""

from __future__ import annotations

from html import escape

_FONT = "font-family='system-ui, sans-serif'"
_HEAD = "viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto-start-reverse'"
INK, FAINT, GROUND, LINE = "#1b2a33", "#5b6b75", "#fbfcfc", "#8fa1ab"
PLAIN, STRONG, WARM, COLD = "#e8eef1", "#bfe3dc", "#fbe3c0", "#d5e3f5"


class Canvas:
    """A drawing that grows as things are put on it.

    Args:
        width: Pixels.
        height: Pixels.
        title: What it shows, for those who cannot see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' role='img'>",
            f"<title>{escape(title)}</title>",
            f"<defs><marker id='head' {_HEAD}><path d='M0 0 L8 4 L0 8 z' fill='{FAINT}'/></marker></defs>",
            f"<rect width='{width}' height='{height}' rx='8' fill='{GROUND}' stroke='{LINE}'/>",
        ]

    def box(self, x: float, y: float, width: float, height: float, *lines: str, fill: str = PLAIN) -> None:
        """A box with lines of words in its middle; the first is the larger one."""
        self._parts.append(
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='5' fill='{fill}' stroke='{LINE}'/>"
        )
        top = y + height / 2 - 8 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.words(
                x + width / 2,
                top + 16 * number + 4.5,
                line,
                anchor="middle",
                size=11 if number else 13,
                ink=FAINT if number else INK,
            )

    def words(self, x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, ink: str = FAINT) -> None:
        """A line of words, its base at y."""
        self._parts.append(
            f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}' font-size='{size}' fill='{ink}' {_FONT}>"
            f"{escape(text)}</text>"
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False, head: bool = True) -> None:
        """A line from point to point, with a head at its end."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        dashes = " stroke-dasharray='4 4'" if dashed else ""
        end = " marker-end='url(#head)'" if head else ""
        self._parts.append(f"<path d='M{path}' fill='none' stroke='{FAINT}' stroke-width='1.4'{dashes}{end}/>")

    def svg(self) -> str:
        """The file's text."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"
