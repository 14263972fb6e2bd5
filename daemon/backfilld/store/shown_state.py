"""What the exchange has shown of each instrument, for the next process: one small JSON file each, beside the journals.

Anybody may have written it: a value that cannot be is left out, and then the exchange has to prove its end at length.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.model import EARLIEST_MS, LATEST_MS, MAX_ID, Instrument
from backfilld.store.layout import STATE_DIRECTORY
from backfilld.store.state_file import load_state, save_state

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept(ShownEnd):
    version: int


def load_shown(cache_dir: Path, instrument: Instrument) -> ShownEnd | None:
    """What was saved last; None if nothing was, or if it is not what this program writes. Raises StoreError: a disk
    that refuses it must not make the trades forgotten that the exchange owes."""
    kept = load_state(_path(cache_dir, instrument), _Kept)
    if kept is None:
        return None
    shown = (kept.shown_id, kept.shown_ms) if _is_trade(kept.shown_id, kept.shown_ms) else (None, 0)
    agreed = (kept.agreed_id, kept.agreed_ms) if _is_trade(kept.agreed_id, kept.agreed_ms) else (None, 0)
    latest_ms = kept.latest_ms if 0 <= kept.latest_ms <= LATEST_MS else 0
    first = (kept.first_id, kept.empty_from_ms) if _is_trade(kept.first_id, kept.empty_from_ms) else (None, 0)
    return ShownEnd(*shown, *agreed, latest_ms, *first)


def save_shown(cache_dir: Path, instrument: Instrument, shown: ShownEnd, *, synced: bool = True) -> None:
    """Replace what was saved. Raises StoreError. ``synced`` as in :func:`replacing`."""
    save_state(_path(cache_dir, instrument), _Kept(**asdict(shown), version=VERSION), synced=synced)


def _is_trade(trade_id: int | None, at_ms: int) -> bool:
    return trade_id is not None and 0 <= trade_id <= MAX_ID and EARLIEST_MS <= at_ms <= LATEST_MS


def _path(cache_dir: Path, instrument: Instrument) -> Path:
    return cache_dir / STATE_DIRECTORY / "shown" / f"market={instrument.market}" / f"symbol={instrument.symbol}.json"
