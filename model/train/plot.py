"""A log as a picture: curves over the steps, one panel per kind of value, as SVG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 220, 52
COLOURS = ("#1f6feb", "#d1495b", "#2a9d6f", "#8a5cc2", "#b7791f")


def curves(log: Path, panels: Mapping[str, Sequence[str]]) -> str:
    """SVG text. panels: title -> the keys of the log that are drawn together."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    parts = []
    for i, (title, keys) in enumerate(panels.items()):
        series = {key: [(line["step"], line[key]) for line in lines if key in line] for key in keys}
        parts.append(_panel(title, {k: v for k, v in series.items() if v}, i * HEIGHT))
    size = f'width="{WIDTH}" height="{HEIGHT * len(panels)}"'
    style = 'font-family="sans-serif" font-size="11" fill="#333"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def _panel(title: str, series: Mapping[str, Sequence[tuple[float, float]]], top: int) -> str:
    points = [point for values in series.values() for point in values]
    if not points:
        return f'<text x="{MARGIN}" y="{top + 16}">{title}: nothing logged</text>'
    right = max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    high = high if high > low else low + 1
    plot_width, plot_height = WIDTH - 2 * MARGIN, HEIGHT - 2 * 32

    def at(x: float, y: float) -> str:
        across = MARGIN + plot_width * x / right
        down = top + 32 + plot_height * (high - y) / (high - low)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<text x="{MARGIN}" y="{top + 18}" font-weight="bold">{title}</text>',
        f'<rect x="{MARGIN}" y="{top + 32}" width="{plot_width}" height="{plot_height}" fill="none" stroke="#bbb"/>',
        f'<text x="{MARGIN - 6}" y="{top + 38}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{MARGIN - 6}" y="{top + HEIGHT - 32}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{WIDTH - MARGIN}" y="{top + HEIGHT - 16}" text-anchor="end">step {right}</text>',
    ]
    for i, (key, values) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(at(x, y) for x, y in values)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        name = f"{key} {values[-1][1]:.4g}"
        parts.append(f'<text x="{MARGIN + 150 * i + 120}" y="{top + 18}" fill="{colour}">{name}</text>')
    return "\n".join(parts)


def scatter(points: Mapping[str, tuple[float, float]], across: str, up: str) -> str:
    """SVG text: named points, with the names of both axes."""
    xs, ys = [x for x, _ in points.values()], [y for _, y in points.values()]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    inner_width, inner_height = WIDTH - 2 * MARGIN - 120, 2 * HEIGHT - 2 * MARGIN
    parts = [
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{inner_width}" height="{inner_height}" fill="none" stroke="#bbb"/>',
        f'<text x="{MARGIN}" y="{MARGIN - 10}" font-weight="bold">{up}: {low:.4g} to {high:.4g}</text>',
        f'<text x="{MARGIN}" y="{MARGIN + inner_height + 18}">{across}: {left:.4g} to {right:.4g}</text>',
    ]
    for i, (name, (x, y)) in enumerate(points.items()):
        at = f"{MARGIN + inner_width * (x - left) / wide:.1f}", MARGIN + inner_height * (high - y) / tall
        colour = COLOURS[i % len(COLOURS)]
        parts.append(f'<circle cx="{at[0]}" cy="{at[1]:.1f}" r="3.5" fill="{colour}"/>')
        label = f'x="{float(at[0]) + 6:.1f}" y="{at[1] + 4:.1f}" fill="{colour}" font-size="9"'
        parts.append(f"<text {label}>{name}</text>")
    size = f'width="{WIDTH}" height="{2 * HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11" fill="#333"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"
