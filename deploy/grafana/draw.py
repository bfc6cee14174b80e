#!/usr/bin/env python3
"""Draws what the dashboard shows as an SVG, without Grafana: each panel's own queries are put to Prometheus.

    draw.py --prometheus http://127.0.0.1:9090 --seconds 120 fleetbridge.json out.svg

Exit code 1 when a panel's query fails or has no data at all: a dashboard that asks for what nobody measures is
an empty one.
"""
import argparse
import html
import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request

WIDTH, ROW, GAP = 1200, 30, 8  # a row of the grid in pixels
COLOURS = ["#3274d9", "#e0752d", "#3f9b45", "#b04ac2", "#c4162a", "#8a6d00", "#008b8b", "#666666"]


def query(base, expr, start, end, step):
    for name, value in {"$__rate_interval": "10s", "$job": ".*", "$instance": ".*"}.items():
        expr = expr.replace(name, value)
    form = urllib.parse.urlencode({"query": expr, "start": start, "end": end, "step": step})
    with urllib.request.urlopen(f"{base}/api/v1/query_range?{form}", timeout=10) as answer:
        return [(s["metric"], [(float(t), float(v)) for t, v in s["values"]]) for s in json.load(answer)["data"]["result"]]


def legend(template, labels):
    return re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), template).strip()


def shown(value, unit):
    if unit == "percentunit":
        return f"{value * 100:.0f} %"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s":
        return f"{value:.0f} s" if value >= 10 else f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2g} s"
    return f"{value:.3g}" + {"cps": "/s"}.get(unit, "")


class Panel:
    def __init__(self, spec, span):
        self.spec, (self.start, self.end) = spec, span
        g = spec["gridPos"]
        self.x, self.y = g["x"] * WIDTH / 24 + GAP / 2, g["y"] * ROW + GAP / 2
        self.w, self.h = g["w"] * WIDTH / 24 - GAP, g["h"] * ROW - GAP
        defaults = spec["fieldConfig"]["defaults"]
        self.unit = defaults.get("unit", "short")
        self.log = defaults.get("custom", {}).get("scaleDistribution", {}).get("type") == "log"
        self.series = []

    def fetch(self, base):
        for target in self.spec["targets"]:
            for labels, points in query(base, target["expr"], self.start, self.end, 1):
                points = [(t, v) for t, v in points if math.isfinite(v)]
                if points:
                    self.series.append((legend(target["legendFormat"], labels) or self.spec["title"], points))
        # What is zero all the time says nothing, unless everything is.
        alive = [s for s in self.series if any(v for _, v in s[1])]
        self.series = alive or self.series[:1]
        return bool(self.series)

    def text(self, x, y, words, size=11, **style):
        style = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in style.items())
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{style}>{html.escape(words)}</text>'

    def draw(self):
        out = [f'<rect x="{self.x:.1f}" y="{self.y:.1f}" width="{self.w:.1f}" height="{self.h:.1f}" fill="#fff" stroke="#ccd"/>',
               self.text(self.x + 8, self.y + 18, self.spec["title"], 13, font_weight="bold")]
        kind = {"stat": self.stat, "state-timeline": self.timeline}.get(self.spec["type"], self.lines)
        return out + (kind() if self.series else [self.text(self.x + 8, self.y + 40, "no data")])

    def stat(self):
        return [self.text(self.x + self.w / 2, self.y + self.h * 0.7, shown(self.series[0][1][-1][1], self.unit), 30, text_anchor="middle")]

    def across(self, t):
        return self.x + 60 + (self.w - 75) * (t - self.start) / (self.end - self.start)

    def seconds(self, bottom):
        step = 10 if self.end - self.start <= 150 else 60
        return [self.text(self.across(self.start + s), bottom + 14, f"{s} s", 10, text_anchor="middle", fill="#667")
                for s in range(0, int(self.end - self.start) + 1, step)]

    def timeline(self):
        out, height = [], (self.h - 60) / len(self.series)
        for i, (name, points) in enumerate(self.series):
            top = self.y + 30 + i * height
            for (t, v), (after, _) in zip(points, points[1:]):
                colour = "#3f9b45" if v else "#c4162a"
                out.append(f'<rect x="{self.across(t):.1f}" y="{top:.1f}" width="{self.across(after) - self.across(t) + 0.5:.1f}" '
                           f'height="{height * 0.7:.1f}" fill="{colour if after - t < 3 else "#ddd"}"/>')
            out.append(self.text(self.across(self.start), top + height * 0.85, name, 10, fill="#667"))
        return out + self.seconds(self.y + self.h - 26)

    def lines(self):
        values = [v for _, points in self.series for _, v in points]
        scale = (lambda v: math.log10(max(v, 1e-4))) if self.log else float
        low = scale(min(values)) if self.log else 0
        high = scale(max(values))
        if high <= low:
            high = low + 1
        rows = math.ceil(len(self.series) / 3)
        bottom, top = self.y + self.h - 26 - rows * 15, self.y + 32
        def up(v):
            return bottom - (bottom - top) * (scale(v) - low) / (high - low)
        out = self.seconds(bottom)
        for mark in (low, (low + high) / 2, high):
            value = 10**mark if self.log else mark
            out += [f'<path d="M{self.across(self.start):.1f} {up(value):.1f}H{self.across(self.end):.1f}" stroke="#e4e6ee"/>',
                    self.text(self.x + 54, up(value) + 4, shown(value, self.unit), 10, text_anchor="end", fill="#667")]
        for i, (name, points) in enumerate(self.series):
            colour, path, before = COLOURS[i % len(COLOURS)], [], None
            for t, v in points:
                path.append(f'{"L" if before and t - before < 3 else "M"}{self.across(t):.1f} {up(v):.1f}')
                before = t
            out.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            x, y = self.x + 12 + (i % 3) * (self.w - 20) / 3, self.y + self.h - rows * 15 + (i // 3) * 15
            out.append(self.text(x, y + 8, "— " + name, 11, fill=colour))
        return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--prometheus", required=True)
    p.add_argument("--seconds", type=int, required=True)
    p.add_argument("dashboard")
    p.add_argument("out")
    a = p.parse_args()
    with open(a.dashboard, encoding="utf-8") as f:
        board = json.load(f)
    end = time.time()
    panels = [Panel(spec, (end - a.seconds, end)) for spec in board["panels"]]
    empty = [x.spec["title"] for x in panels if not x.fetch(a.prometheus)]
    height = max(x.y + x.h for x in panels) + GAP
    body = "\n".join(line for x in panels for line in x.draw())
    with open(a.out, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" fill="#223">\n'
                f'<rect width="{WIDTH}" height="{height:.0f}" fill="#f4f5f8"/>\n{body}\n</svg>\n')
    if empty:
        sys.exit(f"no data for: {', '.join(empty)}")


if __name__ == "__main__":
    main()
