"""/metrics: every name that is promised is there, none that is not, and dashboard and alerts name no other."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from backfilld.core.monitor.snapshot import Snapshot
from backfilld.serving.monitor.metrics import Metrics
from backfilld.serving.monitor.view import View
from tests.fakes import BTC
from tests.serving.views import NOW_MS, full_view

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\bbackfilld_[a-z_]+")
SUFFIXES = ("_bucket", "_count", "_sum")


def exposition(view: View) -> str:
    return Metrics(lambda: view).text("")[0].decode()


def shown(view: View) -> dict[str, set[str]]:
    """The names of the samples, histograms as one, with their labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposition(view)):
        if family.name.startswith("backfilld_"):
            for sample in family.samples:
                name = family.name if family.type == "histogram" else sample.name
                found.setdefault(name, set()).update(sample.labels.keys() - {"le"})
    return found


def documented() -> dict[str, set[str]]:
    rows = re.findall(
        r"^\| (backfilld_\w+) \| ([^|]*)\|", (ROOT / "docs/reference-metrics.md").read_text(), re.MULTILINE
    )
    return {name: set(re.findall(r"\w+", labels)) for name, labels in rows}


@pytest.fixture(scope="module")
def names() -> dict[str, set[str]]:
    return shown(full_view())


def test_what_is_documented_is_shown_and_nothing_else(names: dict[str, set[str]]) -> None:
    assert documented() == names


def test_the_figures_are_those_of_the_view() -> None:
    text = exposition(full_view())
    for line in (
        'backfilld_live_trades_total{instrument="spot:BTCUSDT"} 500.0',
        'backfilld_live_lag_seconds{instrument="spot:BTCUSDT"} 0.012',
        'backfilld_weight_used{by="others",pool="spot"} 10.0',
        'backfilld_requests_total{endpoint="aggTrades",outcome="accepted",pool="spot"} 5.0',
        'backfilld_hole_heal_seconds_bucket{le="0.25"} 1.0',
        'backfilld_hole_heal_seconds_bucket{le="0.1"} 0.0',
        "backfilld_hole_heal_seconds_sum 0.25",
        'backfilld_days{state="sealed"} 2.0',
        'backfilld_stored_trades_total{source="stream"} 20.0',
        'backfilld_api_requests_total{route="/api/v3/depth",source="forwarded",status="429"} 1.0',
        'backfilld_build_info{version="1.2.3"} 1.0',
        f'backfilld_paused_until_timestamp_seconds{{pool="futures",reason="rate limited"}} {NOW_MS / 1000 + 5!r}',
    ):
        assert re.search(f"^{re.escape(line)}$", text, re.MULTILINE) or _same(line, text), line


def _same(line: str, text: str) -> bool:
    """The same sample, its value written in another form."""
    sample, _, value = line.rpartition(" ")
    return any(
        float(each.rpartition(" ")[2]) == float(value) for each in text.splitlines() if each.startswith(f"{sample} ")
    )


def test_what_is_not_known_has_no_sample() -> None:
    found = shown(View(Snapshot(NOW_MS, 0.0, (BTC,)), "1", BTC))
    assert not {"backfilld_days", "backfilld_weight_used", "backfilld_live_lag_seconds"} & found.keys()
    assert not [name for name in found if name.startswith("backfilld_remote")]


def test_both_formats_can_be_read() -> None:
    text, content_type = Metrics(full_view).text("application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in content_type
    assert len(list(openmetrics(text.decode()))) > 25  # type: ignore[no-untyped-call]


def test_the_dashboard_and_the_alerts_name_what_is_shown(names: dict[str, set[str]]) -> None:
    for path in ("config/grafana/backfilld.json", "config/prometheus/backfilld-alerts.yml"):
        used = {_without_suffix(each) for each in NAME.findall((ROOT / path).read_text())}
        assert used, path
        assert used <= names.keys(), path


def _without_suffix(name: str) -> str:
    return next((name.removesuffix(each) for each in SUFFIXES if name.endswith(f"seconds{each}")), name)


def test_the_dashboard_is_one_and_its_panels_do_not_overlap() -> None:
    dashboard = json.loads((ROOT / "config/grafana/backfilld.json").read_text())
    assert dashboard["schemaVersion"] >= 36
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in _span(place, "x", "w") for y in _span(place, "y", "h")}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert all(target["expr"] for target in panel["targets"])


def _span(place: Mapping[str, int], start: str, size: str) -> range:
    return range(place[start], place[start] + place[size])


def test_every_alert_says_what_to_do() -> None:
    yaml = pytest.importorskip("yaml")
    rules = list(_rules(yaml.safe_load((ROOT / "config/prometheus/backfilld-alerts.yml").read_text())))
    assert len(rules) >= 6
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule
        assert {"summary", "description"} == set(rule["annotations"])
        assert rule["labels"]["severity"] in {"warning", "critical"}


def _rules(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for group in document["groups"]:
        yield from group["rules"]
