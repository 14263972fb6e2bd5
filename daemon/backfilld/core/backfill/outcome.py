"""What a backfill came to, and the exit code that says so."""

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
"""Binance's code for a question about a time, or an id, that it does not answer for any more."""
CLOSED_TO_US = 451
"""HTTP's status for a host that is closed to our country; another host may not be."""


MOST_NAMED = 5
"""The missing ranges that are named in sentences; the log has them all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instrument's backfill: what is stored, what it cost, and what is missing and why.

    ``trades`` are all held of the window, of which ``cached`` were on disk before; ``context`` has the figures of its
    newest day; ``reasons`` are sentences.
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
        """A copy with the figures of the window's newest day. If that ``is_whole`` the window, they know best how many
        trades it has."""
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
        """The part of the trades that was on disk already; 1 for none at all."""
        return self.cached / self.trades if self.trades else 1.0

    @property
    def exit_code(self) -> int:
        """The contract's exit code for this outcome."""
        if self.complete:
            return EXIT_DONE
        return exit_code(self.error) if self.error else EXIT_INCOMPLETE


def is_unknown_symbol(error: BaseException | None) -> bool:
    """Whether the exchange has said that it does not list a symbol."""
    return isinstance(error, RequestRejected) and error.code == UNKNOWN_SYMBOL


def missing_sentences(missing: Sequence[IdRange]) -> list[str]:
    """What is missing, in a few sentences."""
    named, others = missing[:MOST_NAMED], missing[MOST_NAMED:]
    sentences = [f"ids {ids.first_id} to {ids.last_id} are missing" for ids in named]
    if others:
        sentences.append(f"{sum(map(len, others))} ids in {len(others)} other places are missing, too")
    return sentences


def exit_code(error: BaseException) -> int:
    """The contract's exit code for an error: 78 what the operator must change, 75 what time may change, else 1."""
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
    """The exit code for several instruments: the worst, where what the operator must change is worst of all."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (EXIT_SETTINGS, EXIT_INCOMPLETE, EXIT_TRY_LATER) if code in codes), EXIT_DONE)
