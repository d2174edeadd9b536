"""Counts and times in Prometheus' text format; a tenant sees its own lines only.

Labels are names and kinds that the service knows, never a client's text: each value is a line
that stays.

Examples
--------
>>> metrics = Metrics()
>>> metrics.count("requests_total", tenant="acme", status="200")
>>> metrics.count("requests_total", tenant="globex", status="200")
>>> print(metrics.text("acme"), end="")
# TYPE requests_total counter
requests_total{tenant="acme",status="200"} 1
"""

from __future__ import annotations

from collections import Counter
from typing import Any

#: Upper ends of the buckets of times, in seconds.
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and histograms of one process."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._times: dict[tuple[str, Labels], list[float]] = {}

    def count(self, name: str, by: float = 1, **labels: Any) -> None:
        """Add to a counter."""
        self._counts[name, _labels(labels)] += by

    def time(self, name: str, seconds: float, **labels: Any) -> None:
        """Add a time to a histogram."""
        row = self._times.setdefault((name, _labels(labels)), [0.0] * (len(BUCKETS) + 2))
        for at, end in enumerate(BUCKETS):
            row[at] += seconds <= end
        row[-2] += 1
        row[-1] += seconds

    def text(self, tenant: str | None = None) -> str:
        """Return all lines, or those that carry a tenant's name."""
        lines: dict[str, list[str]] = {}
        own = lambda labels: tenant is None or ("tenant", tenant) in labels  # noqa: E731
        for (name, labels), value in sorted(self._counts.items()):
            if own(labels):
                lines.setdefault(f"{name} counter", []).append(f"{name}{_told(labels)} {value:g}")
        for (name, labels), row in sorted(self._times.items()):
            if own(labels):
                made = lines.setdefault(f"{name} histogram", [])
                for end, n in zip((*map(str, BUCKETS), "+Inf"), row[:-1], strict=True):
                    made.append(f"{name}_bucket{_told((*labels, ('le', end)))} {n:g}")
                made += [f"{name}_count{_told(labels)} {row[-2]:g}"]
                made += [f"{name}_sum{_told(labels)} {row[-1]:.6f}"]
        return "".join(f"# TYPE {kind}\n" + "\n".join(rows) + "\n" for kind, rows in lines.items())


def _labels(labels: dict[str, Any]) -> Labels:
    return tuple((name, str(value)) for name, value in labels.items())


def _told(labels: Labels) -> str:
    safe = lambda text: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")  # noqa: E731
    told = ",".join(f'{name}="{safe(value)}"' for name, value in labels)
    return f"{{{told}}}" if told else ""
