"""The outcome of a backfill, and its exit code."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from backfilld.core.day.figures import Figures
from backfilld.core.model import IdRange, Instrument
from backfilld.errors import (
    EXIT_DONE,
    EXIT_INCOMPLETE,
    EXIT_SETTINGS,
    EXIT_TRY_LATER,
    BackfillError,
    CacheLocked,
    DayLocked,
    RateLimited,
    RemoteDenied,
    RemoteUnreachable,
    RequestRejected,
    SettingsError,
    TransientError,
)

UNKNOWN_SYMBOL = -1121
"""Binance's code for a symbol that it does not list."""
TOO_OLD = -4166
"""Binance's code for a time or an id that it no longer answers for."""
CLOSED_TO_US = 451
"""HTTP status of a host that refuses our country. Another host may answer."""


MOST_NAMED = 5
"""How many missing ranges the sentences name; the log has all of them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instrument's backfill: what is stored, what it cost, and what is missing and why.

    ``trades`` counts the stored trades of the window; ``cached`` of them were on disk before. ``context`` has the
    figures of its newest day. ``reasons`` are sentences.
    """

    instrument: Instrument
    complete: bool
    trades: int
    cached: int
    seconds: float
    requests: int
    weight: int
    context: Figures | None = None
    missing: tuple[IdRange, ...] = ()
    reasons: tuple[str, ...] = ()
    error: BackfillError | None = None

    def with_figures(self, figures: Figures | None, *, is_whole: bool) -> "Outcome":
        """A copy with the figures of the window's newest day. If that day ``is_whole`` the window, their count of
        trades replaces ours."""
        if figures is None or not is_whole:
            return replace(self, context=figures)
        fetched = self.trades - self.cached
        return replace(self, context=figures, trades=figures.trades, cached=max(0, figures.trades - fetched))

    @property
    def downloaded(self) -> int:
        """Trades that came from the exchange."""
        return self.trades - self.cached

    @property
    def hit_ratio(self) -> float:
        """The part of the trades that was on disk before; 1 if there are no trades."""
        return self.cached / self.trades if self.trades else 1.0

    @property
    def exit_code(self) -> int:
        """The exit code for this outcome."""
        if self.complete:
            return EXIT_DONE
        return exit_code(self.error) if self.error else EXIT_INCOMPLETE


def is_unknown_symbol(error: BaseException | None) -> bool:
    """Whether the error says that the exchange does not list a symbol."""
    return isinstance(error, RequestRejected) and error.code == UNKNOWN_SYMBOL


def missing_sentences(missing: Sequence[IdRange]) -> list[str]:
    """A few sentences that name the missing ranges."""
    named, others = missing[:MOST_NAMED], missing[MOST_NAMED:]
    sentences = [f"ids {ids.first_id} to {ids.last_id} are missing" for ids in named]
    if others:
        sentences.append(f"{sum(map(len, others))} ids in {len(others)} other places are missing, too")
    return sentences


def exit_code(error: BaseException) -> int:
    """The exit code for an error: 78 if the operator must act, 75 if time may mend it, else 1."""
    match error:
        case SettingsError() | DayLocked() | RemoteDenied():
            return EXIT_SETTINGS
        case RequestRejected(status=status, code=code) if status == CLOSED_TO_US or code in {UNKNOWN_SYMBOL, None}:
            return EXIT_SETTINGS
        case CacheLocked() | RateLimited() | TransientError() | RemoteUnreachable():
            return EXIT_TRY_LATER
        case _:
            return EXIT_INCOMPLETE


def overall_exit_code(outcomes: Iterable[Outcome]) -> int:
    """The exit code for several instruments: the worst. 78 is worse than 1, and 1 is worse than 75."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (EXIT_SETTINGS, EXIT_INCOMPLETE, EXIT_TRY_LATER) if code in codes), EXIT_DONE)
