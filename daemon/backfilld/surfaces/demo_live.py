"""The second half of the demo: the daemon follows streams that are cut and lose trades, and a reader follows it."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import trio

from backfilld.core.model import Instrument
from backfilld.errors import BackfillError
from backfilld.services.following import follow
from backfilld.settings import Settings
from backfilld.store.layout import state_directory
from binance_simulator import Exchange, Market, StreamOptions

STREAMS = StreamOptions(drop_share=0.02, double_share=0.02, cut_every_s=2.0)
"""In a few seconds there is something of everything."""

FOLLOWED_S = 6.0
START_S = 20.0


@dataclass(frozen=True, slots=True)
class Live:
    """What a reader got while it was live, and what the daemon's log says: connections that were lost, holes that
    were healed. ``in_order``: every id once, each the one after the last."""

    trades: int
    in_order: bool
    attached: int
    lost: int
    healed: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the reader got trades, and nothing was missing or came twice."""
        return self.in_order and self.trades > 0 and self.attached > 0


async def run_live(exchange: Exchange, cache_dir: Path, instrument: Instrument) -> Live:
    """Run the daemon on the exchange's streams and follow it for a few seconds."""
    settings = {
        "spot_url": exchange.url,
        "spot_stream_url": exchange.streams.urls[Market.SPOT],
        "archive_url": exchange.url,
        "cache_dir": str(cache_dir),
        "instruments": str(instrument),
        "cache_enabled": "true",
        "encryption": "none",
        "days": "0",
        "live": "true",
        "log_format": "json",
        "log_level": "info",
        "checkpoint_seconds": "1",
    }
    environment = os.environ | {f"BACKFILL_{name.upper()}": value for name, value in settings.items()}
    began = time.perf_counter()
    log = cache_dir / ".demo.log"
    with log.open("wb") as out:
        async with trio.open_nursery() as nursery:
            command = [sys.executable, "-P", "-m", "backfilld", "run"]
            quiet = partial(trio.run_process, command, env=environment, check=False, stdin=subprocess.DEVNULL)
            await nursery.start(partial(quiet, stdout=out))
            ids = await _followed(Settings(**settings), instrument)
            # It is sent SIGTERM, and saves what it has.
            nursery.cancel_scope.cancel()
    events = Counter(json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{"))
    log.unlink()
    return Live(
        trades=len(ids),
        in_order=all(later == earlier + 1 for earlier, later in pairwise(ids)),
        attached=events["live_attached"],
        lost=events["live_lost"],
        healed=events["live_hole_healed"],
        seconds=round(time.perf_counter() - began, 2),
    )


async def _followed(settings: Settings, instrument: Instrument) -> list[int]:
    """The ids that a reader gets in FOLLOWED_S from the first one on."""
    ids: list[int] = []
    with trio.move_on_after(START_S) as scope:
        while not (state_directory(settings.cache_dir) / "live.sock").exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.05)
        try:
            async with aclosing(follow(instrument, settings=settings)) as frames:
                async for frame in frames:
                    if not ids:
                        scope.deadline = trio.current_time() + FOLLOWED_S
                    ids += frame["a"].to_list()
        except BackfillError:
            return ids
    return ids
