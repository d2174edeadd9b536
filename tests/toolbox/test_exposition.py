"""Metrics in Prometheus' text format: buckets, escapes, and one client's lines alone."""

from __future__ import annotations

from casebook.serving.exposition import Metrics


def test_times_fill_every_bucket_above_them_and_sum_up():
    metrics = Metrics()
    for seconds in (0.004, 0.3, 100.0):
        metrics.time("request_seconds", seconds, tenant="acme")
    lines = dict(line.rsplit(" ", 1) for line in metrics.text().splitlines()[1:])
    at = 'request_seconds_bucket{tenant="acme",le="%s"}'
    assert [lines[at % end] for end in ("0.002", "0.005", "0.5", "30.0")] == list("0122")
    assert lines[at % "+Inf"] == lines['request_seconds_count{tenant="acme"}'] == "3"
    assert float(lines['request_seconds_sum{tenant="acme"}']) == 100.304


def test_a_value_cannot_write_a_line_of_its_own_and_a_tenant_sees_its_lines_alone():
    metrics = Metrics()
    metrics.count("asked_total", tenant="acme", what='a"} 1\nstolen{x="')
    metrics.count("asked_total", 2, tenant="globex")
    text = metrics.text()
    assert r'what="a\"} 1\nstolen{x=\""' in text
    assert len(text.splitlines()) == 3
    assert metrics.text("globex") == '# TYPE asked_total counter\nasked_total{tenant="globex"} 2\n'
    assert metrics.text("nobody") == ""
