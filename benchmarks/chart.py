"""A bar chart as SVG, for light and dark pages: a panel a column, a bar a row, its figure beside it."""

from dataclasses import dataclass
from html import escape

WIDTH, LABELS, FIGURES = 760, 260, 70  # pixels: all, the names on the left, room for a figure on the right
BAR, STEP, HEAD, GAP = 16, 24, 30, 14
OURS = "ours"  # rows whose names begin so are drawn in the colour that tells them apart
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
}
"""


@dataclass(frozen=True)
class Panel:
    """Bars to one scale, from nought."""

    title: str
    bars: dict[str, float]


def draw(panels: list[Panel]) -> str:
    """Return the SVG document."""
    parts, top = [], 0
    for panel in panels:
        most = max(panel.bars.values(), default=0) or 1
        parts.append(f'<text class="title" x="0" y="{top + 18}">{escape(panel.title)}</text>')
        top += HEAD
        for name, value in panel.bars.items():
            length = max(1.0, value / most * (WIDTH - LABELS - FIGURES))
            kind = "bar ours" if name.startswith(OURS) else "bar"
            middle = top + BAR - 3
            shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
            parts += [
                f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
                f'<rect class="{kind}" x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>',
                f'<text x="{LABELS + length + 6:.1f}" y="{middle}">{shown}</text>',
            ]
            top += STEP
        top += GAP
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])
