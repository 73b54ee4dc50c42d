"""Medians, ratios to the kernel, a table for people, JSON for programs, and a plot."""
import math
import statistics


def summarize(results, targets):
    """results: {target: {row: [rates]}} -> {row: {target: {"median", "ratio", "rates"}}}"""
    rows = {}
    for target in targets:
        for row, rates in results[target].items():
            rows.setdefault(row, {})[target] = {"median": statistics.median(rates), "rates": rates}
    for row in rows.values():
        kernel = row.get("kernel")
        for entry in row.values():
            entry["ratio"] = entry["median"] / kernel["median"] if kernel else None
    return rows


def table(rows, labels):
    names = list(labels)
    width = max(map(len, rows), default=3)
    lines = [f"{'row':{width}}  " + "  ".join(f"{labels[n]:>26}" for n in names)]
    for row, entries in rows.items():
        cells = []
        for name in names:
            entry = entries.get(name)
            cells.append("" if entry is None else f"{entry['median']:.4g}" + ("" if entry["ratio"] is None else f" ({entry['ratio']:.2f})"))
        lines.append(f"{row:{width}}  " + "  ".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


COLOURS = {"outboard": "#2563a8", "outboard_loop": "#7fb0de", "fuse2fs": "#c2703d"}


def plot(rows, labels):
    """Ratios to the kernel, logarithmic, as SVG."""
    shown = [name for name in labels if name in COLOURS]
    low, high, left, wide, step = 0.01, 10.0, 190, 560, 10
    height = len(rows) * (len(shown) * step + 8) + 60

    def x(ratio):
        return left + wide * math.log(min(max(ratio, low), high) / low) / math.log(high / low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 70}" height="{height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>']
    for i, name in enumerate(shown):
        out.append(f'<rect x="{left + i * 180}" y="8" width="10" height="10" fill="{COLOURS[name]}"/>'
                   f'<text x="{left + i * 180 + 15}" y="17">{labels[name]}</text>')
    for mark in (0.01, 0.1, 1, 10):
        out.append(f'<line x1="{x(mark):.1f}" y1="28" x2="{x(mark):.1f}" y2="{height - 20}" stroke="{"#444" if mark == 1 else "#ccc"}"/>'
                   f'<text x="{x(mark):.1f}" y="{height - 6}" text-anchor="middle">{mark:g}</text>')
    y = 34
    for row, entries in rows.items():
        out.append(f'<text x="{left - 6}" y="{y + len(shown) * step / 2 + 4}" text-anchor="end">{row}</text>')
        for name in shown:
            entry = entries.get(name)
            if entry and entry["ratio"]:
                end = x(entry["ratio"])
                out.append(f'<rect x="{left}" y="{y}" width="{max(end - left, 1):.1f}" height="{step - 2}" fill="{COLOURS[name]}"/>'
                           f'<text x="{end + 3:.1f}" y="{y + step - 2}" font-size="8">{entry["ratio"]:.2f}</text>')
            y += step
        y += 8
    out.append("</svg>")
    return "\n".join(out) + "\n"
