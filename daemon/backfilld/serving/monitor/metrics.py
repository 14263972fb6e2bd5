"""``/metrics``: the daemon's figures as Prometheus reads them.

Owns the names, which docs/reference-metrics.md lists. Labels are bounded: instruments, pools, endpoints, route
templates, and words of our own; never a client, a path or an id. What is not known yet has no sample.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from backfilld.core.histogram import Histogram
from backfilld.serving.monitor.view import View

PREFIX = "backfilld_"


class _Daemon(Collector):
    def __init__(self, look: Callable[[], View]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, from one look."""
        view = self._look()
        for families in (_of_live_instruments, _of_live, _of_holes, _of_weight, _of_endpoint, _of_store):
            yield from families(view)
        yield InfoMetricFamily(f"{PREFIX}build", "The version of backfilld.", {"version": view.version})


class Metrics:
    """A registry of our own over what ``look`` returns."""

    def __init__(self, look: Callable[[], View]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Daemon(look))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in a format that the header ``Accept`` names."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _of_live(view: View) -> Iterator[Metric]:
    live = view.daemon.live
    yield _counter("live_duplicates", "Trades that a stream brought again.", {(): live.duplicates})
    yield _counter("live_connects", "Connections to streams that were opened.", {(): live.connects})
    yield _counter("live_overflows", "Trades of streams that found no room; REST brings them.", {(): live.overflowed})


def _of_live_instruments(view: View) -> Iterator[Metric]:
    live = view.daemon.live.instruments.items()
    yield _counter(
        "live_trades",
        "Trades given out by the live side.",
        {(str(name),): each.trades for name, each in live},
        "instrument",
    )
    yield _gauge(
        "live_attached",
        "1 while a stream brings the instrument's trades, 0 while it is polled.",
        {(str(name),): float(each.is_attached) for name, each in live},
        "instrument",
    )
    yield _gauge(
        "live_last_trade_timestamp_seconds",
        "The exchange's time of the newest trade given out.",
        {(str(name),): each.last.T / 1000 for name, each in live if each.last is not None},
        "instrument",
    )
    yield _gauge(
        "live_lag_seconds",
        "How far the newest message lay behind its event, by the exchange's clock.",
        {(str(name),): each.lag_ms / 1000 for name, each in live if each.lag_ms is not None},
        "instrument",
    )
    yield _gauge(
        "complete_timestamp_seconds",
        "The time up to which all trades of the instrument are known to be here.",
        {
            (str(name),): each.complete_ms / 1000
            for name, each in view.daemon.freshness.items()
            if each.complete_ms is not None
        },
        "instrument",
    )


def _of_holes(view: View) -> Iterator[Metric]:
    live = view.daemon.live
    yield _counter("holes_found", "Holes in streams for which REST was asked.", {(): live.holes_found})
    yield _counter("holes_healed", "Holes that REST filled.", {(): live.holes_healed})
    yield _counter(
        "holes_given_up", "Holes that nobody could fill in LIVE_PATIENCE_SECONDS.", {(): live.holes_given_up}
    )
    yield _histogram("hole_heal_seconds", "How long healed holes stood.", {(): live.heal_seconds})


def _of_weight(view: View) -> Iterator[Metric]:
    pools = view.daemon.budgets.items()
    yield _gauge(
        "weight_used",
        "Request weight used of the window, by the exchange's count.",
        {
            (str(pool), by): count
            for pool, each in pools
            for by, count in (("own", each.own), ("bots", each.clients), ("others", each.others))
        },
        "pool",
        "by",
    )
    yield _gauge(
        "weight_limit", "The exchange's limit of it.", {(str(pool),): each.limit for pool, each in pools}, "pool"
    )
    yield _counter(
        "requests",
        "Requests to the exchange that have ended.",
        {
            (str(pool), endpoint, outcome): count
            for pool, each in pools
            for endpoint, of in each.answers.items()
            for outcome, count in of.items()
        },
        "pool",
        "endpoint",
        "outcome",
    )
    yield _gauge(
        "paused_until_timestamp_seconds",
        "When the exchange may be asked again; no sample while it may be.",
        {
            (str(pool), str(each.reason)): (view.daemon.wall_ms + each.paused_ms) / 1000
            for pool, each in pools
            if each.paused_ms > 0
        },
        "pool",
        "reason",
    )


def _of_endpoint(view: View) -> Iterator[Metric]:
    counts = view.endpoint
    answers = {(route, str(status), source): count for (route, status, source), count in counts.answers.items()}
    yield _counter("api_requests", "Answers of the local endpoint.", answers, "route", "status", "source")
    by_route = {(route,): seconds for route, seconds in counts.seconds.items()}
    yield _histogram("api_request_seconds", "Seconds that an answer took.", by_route, "route")
    yield _counter("api_coalesced", "Answers of a request that was in flight already.", {(): counts.coalesced})
    yield _gauge("subscribers", "Open connections to the streams of the local endpoint.", {(): view.subscribers})
    yield _counter("frames_sent", "Messages that went to subscribers.", {(): counts.frames})
    dropped = {(reason,): count for reason, count in counts.dropped.items()}
    yield _counter("subscribers_dropped", "Subscribers that were closed by us.", dropped, "reason")


def _of_store(view: View) -> Iterator[Metric]:
    if view.coverage is not None:
        marks = [day.mark for days in view.coverage.values() for day in days.values()]
        by_mark = {(mark,): marks.count(mark) for mark in dict.fromkeys(marks)}
        yield _gauge("days", "Stored days, by state.", by_mark, "state")
    trades = {(source,): count for source, count in view.daemon.written.trades.items()}
    yield _counter("stored_trades", "Trades put on disk, by where they came from.", trades, "source")
    yield _counter("disk_written_bytes", "Bytes of day files written.", {(): view.daemon.written.bytes})
    for event, name, text in _REMOTE if view.remote is not None else ():
        yield _counter(name, text, {(): (view.remote or {})[event]})


_REMOTE = (
    ("day_pushed", "remote_pushed_days", "Days that were pushed to the bucket."),
    ("day_pulled", "remote_pulled_days", "Days that came from the bucket."),
    ("remote_conflicted", "remote_conflicts", "Days that the bucket has with other rows."),
    ("remote_refused", "remote_refusals", "Days of the bucket that failed a check."),
    ("remote_failed", "remote_failures", "Times that the bucket went out of reach."),
)


# The keys are tuples of label values; mypy knows none of a length that varies.


def _counter(name: str, text: str, samples: Mapping[Any, int], *labels: str) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    for values, count in samples.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, samples: Mapping[Any, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _histogram(name: str, text: str, samples: Mapping[Any, Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    for values, each in samples.items():
        bounds = [*map(str, map(float, each.bounds)), "+Inf"]
        family.add_metric(values, list(zip(bounds, map(float, accumulate(each.counts)), strict=True)), each.total)
    return family
