"""The archive behind its counter: which day files are published, what they hold now, who asked for them.

Owns the published days, the files made so far (bounded) and the log of archive requests. Costs no request weight.
Synchronous and without sockets; must not wait, and must not know how an answer travels.
"""

import re
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from email.utils import formatdate
from itertools import count
from urllib.parse import parse_qsl

import polars as pl

from binance_simulator.absences import AbsentIds, without_absent
from binance_simulator.archive_defects import ArchiveDefect, spoiled_rows
from binance_simulator.archive_files import ArchiveFile, archive_file, stem_of
from binance_simulator.archive_listing import (
    MOST_KEYS,
    ListedObject,
    ListingQuery,
    error_xml,
    listing_page,
    listing_xml,
)
from binance_simulator.faults import Fault
from binance_simulator.model import MS_PER_DAY, Instrument, Market, day_start_ms, day_stop_ms
from binance_simulator.options import ExchangeOptions
from binance_simulator.replies import Reply, html_reply
from binance_simulator.tampering import DELIVERY_FAULTS, replacement
from binance_simulator.tape import Tape

FOLDER_OF = {Market.SPOT: "spot", Market.UM: "futures/um", Market.CM: "futures/cm"}
CHECKSUM_SUFFIX = ".CHECKSUM"
_MARKET_OF = {folder: market for market, folder in FOLDER_OF.items()}
_KEY = re.compile(
    r"data/(?P<folder>spot|futures/um|futures/cm)/daily/aggTrades/(?P<symbol>[^/]+)/(?P=symbol)-aggTrades-"
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})\.zip(?P<checksum>\.CHECKSUM)?"
)
_KEPT_BYTES = 128 * 2**20
_REMEMBERED_REQUESTS = 200_000
_XML_TYPE = b"application/xml"
_EPOCH = date(1970, 1, 1)
_DELIVERIES = {ArchiveDefect.CUT_TRANSFER: Fault.CUT_BODY, ArchiveDefect.ENDLESS_FILE: Fault.ENDLESS_BODY}


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """One request to the archive: ``arrived_ms`` on the server's clock, ``path`` decoded and with its query.

    ``status`` is 0 if it got no answer; ``bytes`` is the length of the body that was announced to a GET.
    """

    number: int
    arrived_ms: int
    method: str
    path: str
    status: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Day:
    """One published day, with what is wrong with it now."""

    instrument: Instrument
    day: date
    defects: frozenset[ArchiveDefect]
    absent: AbsentIds
    modified_ms: int

    @property
    def key(self) -> str:
        """The key of its zip."""
        folder, symbol = FOLDER_OF[self.instrument.market], self.instrument.symbol
        return f"data/{folder}/daily/aggTrades/{symbol}/{stem_of(self.instrument, self.day)}.zip"


class Archive:
    """The archive of the tapes: ``requests`` is its log. What the tapes and options say decides each answer."""

    def __init__(self, tapes: Mapping[Instrument, Tape]) -> None:
        self.requests: deque[ArchiveRecord] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._tapes = tapes
        self._numbers = count(1)
        self._plan_numbers = count(1)
        self._files: OrderedDict[tuple[object, ...], ArchiveFile] = OrderedDict()
        self._listed: dict[tuple[object, ...], list[ListedObject]] = {}
        self._republished_ms: dict[tuple[Instrument, date], int] = {}

    def restart_faults(self) -> None:
        """Number the requests of the plan of faults from 1 again."""
        self._plan_numbers = count(1)

    def answer(self, method: str, path: str, query: str, now_ms: int, options: ExchangeOptions) -> Reply:
        """Answer a request that arrives now, GET or HEAD, and note it. ``path`` is decoded, ``query`` is not."""
        number = next(self._plan_numbers)
        fault = options.archive_faults.fault_of(number)
        reply = None if fault is None else replacement(fault, Market.SPOT, number)
        if reply is None:
            is_file = path.startswith("/data/")
            reply = (
                self._file_reply(method, path[1:], now_ms, options)
                if is_file
                else self._listing(query, now_ms, options)
            )
        if fault in DELIVERY_FAULTS:
            reply = replace(reply, delivery=fault)
        reply = replace(reply, from_exchange=False)
        unanswered = reply.delivery in {Fault.RESET, Fault.SILENCE}
        self.requests.append(
            ArchiveRecord(
                number=next(self._numbers),
                arrived_ms=now_ms,
                method=method,
                path=f"{path}?{query}" if query else path,
                status=0 if unanswered else reply.status,
                bytes=0 if unanswered or method == "HEAD" else len(reply.body),
            )
        )
        return reply

    def _file_reply(self, method: str, key: str, now_ms: int, options: ExchangeOptions) -> Reply:
        match = _KEY.fullmatch(key)
        day = None if match is None else self._day(match, now_ms, options)
        if match is None or day is None:
            return _no_such_key(key)
        if ArchiveDefect.HTML_200 in day.defects:
            return html_reply(200, "Welcome", "Please accept the terms of this network.")
        file = self._file(day, now_ms)
        if file is None:
            return _no_such_key(key)
        modified = (b"last-modified", formatdate(day.modified_ms // 1000, usegmt=True).encode())
        if match["checksum"]:
            etag = (b"etag", file.checksum_etag.encode())
            endless = Fault.ENDLESS_BODY if ArchiveDefect.ENDLESS_CHECKSUM in day.defects else None
            return Reply(200, file.checksum, b"binary/octet-stream", (modified, etag), delivery=endless)
        if method == "GET" and ArchiveDefect.REPUBLISHED in day.defects:
            self._republished_ms.setdefault((day.instrument, day.day), now_ms)
        delivery = next((fault for defect, fault in _DELIVERIES.items() if defect in day.defects), None)
        headers: tuple[tuple[bytes, bytes], ...] = (modified, (b"etag", file.etag.encode()))
        if method == "HEAD" and ArchiveDefect.WRONG_SIZE in day.defects:
            headers += ((b"content-length", str(len(file.content) // 1000).encode()),)
        return Reply(200, file.content, b"application/zip", headers, delivery=delivery)

    def _day(self, match: re.Match[str], now_ms: int, options: ExchangeOptions) -> _Day | None:
        """The published day that a key names, or None."""
        instrument = Instrument(_MARKET_OF[match["folder"]], match["symbol"])
        try:
            day = date.fromisoformat(match["day"])
        except ValueError:
            return None
        return self._published(instrument, day, now_ms, options) if instrument in self._tapes else None

    def _published(self, instrument: Instrument, day: date, now_ms: int, options: ExchangeOptions) -> _Day | None:
        """The day as it is published now, or None where it is not (yet)."""
        published_ms = day_stop_ms(day) + round(options.archive_delay_s * 1000)
        defects = options.archive_defects_of(instrument, day)
        if now_ms < published_ms or ArchiveDefect.MISSING in defects:
            return None
        if ArchiveDefect.REPUBLISHED in defects:
            republished_ms = self._republished_ms.get((instrument, day))
            if republished_ms is not None:
                defects, published_ms = frozenset(), republished_ms
            elif len(defects) == 1:
                defects |= {ArchiveDefect.CHANGED_VALUES}
        return _Day(instrument, day, defects, options.absent_ids_of(instrument), published_ms)

    def _file(self, day: _Day, now_ms: int) -> ArchiveFile | None:
        """The day's zip, made on the first request for it; None for a day without rows."""
        rows = self._rows(day, now_ms)
        if rows.is_empty():
            return None
        made_of = self._made_of(day, rows)
        file = self._files.get(made_of)
        if file is None:
            grid = self._tapes[day.instrument].grid
            spoiled = spoiled_rows(rows, day.defects, grid, self._row_before(day, rows))
            file = self._files[made_of] = archive_file(day.instrument, day.day, spoiled, grid, day.defects)
            self._drop_oldest_files()
        self._files.move_to_end(made_of)
        return file

    def _made_of(self, day: _Day, rows: pl.DataFrame) -> tuple[object, ...]:
        """What a day's file is a function of."""
        return (day.instrument, day.day, day.defects, tuple(day.absent), rows.height)

    def _drop_oldest_files(self) -> None:
        """Keep what fits into the bound, and always the newest file."""
        kept_bytes = sum(len(file.content) for file in self._files.values())
        while kept_bytes > _KEPT_BYTES and len(self._files) > 1:
            kept_bytes -= len(self._files.popitem(last=False)[1].content)

    def _rows(self, day: _Day, now_ms: int) -> pl.DataFrame:
        """The visible rows with T in the day that the exchange has, in order of their ids."""
        tape = self._tapes[day.instrument]
        visible_rows = tape.rows_visible(now_ms)
        start_ms, stop_ms = day_start_ms(day.day), day_stop_ms(day.day)
        if tape.is_chronological:
            start, stop = bisect_left(tape.times_ms, start_ms), bisect_left(tape.times_ms, stop_ms)
            rows = tape.frame[start : min(stop, visible_rows)] if start < visible_rows else tape.frame.clear()
        else:
            rows = tape.frame.head(visible_rows).filter(pl.col("T").is_between(start_ms, stop_ms, closed="left"))
        return without_absent(rows, day.absent)

    def _row_before(self, day: _Day, rows: pl.DataFrame) -> pl.DataFrame:
        """The row before the day's first one, or none."""
        if ArchiveDefect.REUSED_ID not in day.defects:
            return rows.clear()
        tape = self._tapes[day.instrument]
        before = tape.frame.head(bisect_left(tape.ids, rows["a"][0]))
        return without_absent(before, day.absent).tail(1)

    def _listing(self, query_text: str, now_ms: int, options: ExchangeOptions) -> Reply:
        given = dict(parse_qsl(query_text, keep_blank_values=True))
        max_keys = given.get("max-keys", str(MOST_KEYS))
        if not re.fullmatch(r"\d{1,9}", max_keys):
            message = "Provided max-keys not an integer or within integer range"
            return Reply(400, error_xml("InvalidArgument", message), _XML_TYPE)
        query = ListingQuery(
            given.get("prefix", ""), given.get("delimiter", ""), given.get("marker", ""), int(max_keys)
        )
        days = {day.key: day for day in self._days_under(query.prefix, now_ms, options)}
        page = listing_page((key + suffix for key in days for suffix in ("", CHECKSUM_SUFFIX)), query)
        objects = [self._listed_object(days[key.removesuffix(CHECKSUM_SUFFIX)], key, now_ms) for key in page.keys]
        return Reply(200, listing_xml(query, page, objects), _XML_TYPE)

    def _days_under(self, prefix: str, now_ms: int, options: ExchangeOptions) -> Iterator[_Day]:
        """The published days of the instruments whose keys may begin with the prefix."""
        for instrument, tape in self._tapes.items():
            folder = f"data/{FOLDER_OF[instrument.market]}/daily/aggTrades/{instrument.symbol}/"
            if not (folder.startswith(prefix) or prefix.startswith(folder)):
                continue
            rows = without_absent(tape.visible(now_ms), options.absent_ids_of(instrument))
            for number in (rows["T"] // MS_PER_DAY).unique().sort():
                day = self._published(instrument, _EPOCH + timedelta(days=number), now_ms, options)
                if day is not None:
                    yield day

    def _listed_object(self, day: _Day, key: str, now_ms: int) -> ListedObject:
        """What the listing tells of one key; remembered, so that a file too large to be kept is made once for it."""
        made_of = self._made_of(day, self._rows(day, now_ms))
        if made_of not in self._listed:
            file = self._file(day, now_ms)
            if file is None:
                raise AssertionError(f"{day.key} is listed without rows")
            self._listed[made_of] = [
                ListedObject(day.key, day.modified_ms, file.etag, len(file.content)),
                ListedObject(day.key + CHECKSUM_SUFFIX, day.modified_ms, file.checksum_etag, len(file.checksum)),
            ]
        listed = self._listed[made_of][int(key.endswith(CHECKSUM_SUFFIX))]
        return replace(listed, modified_ms=day.modified_ms)


def _no_such_key(key: str) -> Reply:
    return Reply(404, error_xml("NoSuchKey", "The specified key does not exist.", Key=key), _XML_TYPE)
