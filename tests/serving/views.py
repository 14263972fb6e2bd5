"""A daemon in the middle of its life, as one value: every figure that there can be has one."""

from datetime import date, timedelta

from backfilld.core.live.reports import NO_HEALS, HoleReport, LiveInstrument, LiveStatistics
from backfilld.core.live.trades import LiveTrade
from backfilld.core.markets import Pool
from backfilld.core.model import IdRange, day_start_ms
from backfilld.core.monitor.freshness import Freshness
from backfilld.core.monitor.history import History, WeightWindow
from backfilld.core.monitor.snapshot import Snapshot, Written
from backfilld.core.monitor.today import Today
from backfilld.core.monitor.warned import REMOTE, Warned
from backfilld.core.sync.standing import Statistics
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.services.stored_days import DayStatus
from backfilld.serving.monitor.counts import EndpointCounts
from backfilld.serving.monitor.view import View
from backfilld.serving.traffic import Answered, FramesSent, SubscriberDropped
from tests.fakes import BTC, ETH

DAY = date(2026, 11, 7)
NOW_MS = day_start_ms(DAY) + 36_000_000.0
HOSTILE = '<script>alert("x")</script>'


def trade(number: int) -> LiveTrade:
    return LiveTrade(
        day_start_ms(DAY) + number * 60_000, number, 85_000.0 + number, 0.5, number, number, number % 3 == 0
    )


def full_view() -> View:
    live = LiveStatistics(
        instruments={
            BTC: LiveInstrument(is_attached=True, trades=500, next_id=600, last=trade(599), lag_ms=12.0),
            ETH: LiveInstrument(is_attached=True, trades=5, next_id=6, last=trade(5), lag_ms=2.0, hole_since_s=0.4),
        },
        lag_ms=12.0,
        connects=3,
        holes_found=3,
        holes_healed=1,
        holes_given_up=1,
        holes=(HoleReport(BTC, IdRange(7, 9), NOW_MS - 5_000, 0.25, 1),),
        heal_seconds=NO_HEALS.plus(0.25),
        duplicates=4,
        overflowed=5,
    )
    daemon = Snapshot(
        NOW_MS,
        0.0,
        (BTC, ETH),
        Statistics(instruments=2, complete=2),
        live,
        freshness={BTC: Freshness(True, NOW_MS - 12), ETH: Freshness(True, NOW_MS - 400)},
        budgets={
            Pool.SPOT: BudgetStatistics(
                6000, "1m", 4800, 40, own=30, others=10, answers={"aggTrades": {"accepted": 5}}
            ),
            Pool.FUTURES: BudgetStatistics(2400, "1m", 1920, 20, own=20, paused_ms=5000, reason=Reason.LIMITED),
        },
        written=Written({"rest": 100, "stream": 20, "archive": 3}, 4096),
    )
    return View(
        daemon,
        version="1.2.3",
        chosen=BTC,
        remote=dict.fromkeys(REMOTE, 1),
        history=_history(live),
        coverage={BTC: _days(), ETH: {}},
        today=_today(),
        endpoint=_counts(),
        subscribers=2,
        warnings=(Warned("2026-11-07T09:59:00.123Z", "warning", "live_lost", HOSTILE),),
    )


def _history(live: LiveStatistics) -> History:
    history = History()
    for number in range(5):
        start_ms = int(NOW_MS) - 60_000 * (5 - number)
        history.saw_weight(Pool.SPOT, WeightWindow(start_ms, 40, 4, 10 * number, 6000))
        history.saw_weight(Pool.FUTURES, WeightWindow(start_ms, 20, 0, 0, 2400))
        history.saw_trades(NOW_MS - 5_000 * (5 - number), {BTC: 100 * number})
    history.saw_holes(live.holes)
    return history


def _days() -> dict[date, DayStatus]:
    states = ["sealed", "missing", "holes", "bad", "locked", "sealed"]
    days = (DAY - timedelta(days=len(states) - 1 - place) for place in range(len(states)))
    return {
        day: DayStatus(str(BTC), day.isoformat(), state, trades=10) for day, state in zip(days, states, strict=True)
    }


def _today() -> Today:
    today = Today(DAY)
    today.take([trade(number) for number in range(600)])
    return today


def _counts() -> EndpointCounts:
    counts = EndpointCounts()
    for source in ("cache", "forwarded", "coalesced", "own"):
        counts.observe(Answered("/api/v3/aggTrades", 200, source, 0.004))
    counts.observe(Answered("/api/v3/depth", 429, "forwarded", 8.0))
    counts.observe(FramesSent(17))
    counts.observe(SubscriberDropped("too slow"))
    return counts
