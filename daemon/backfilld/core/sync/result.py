"""The outcome of a sync, with sentences that say why it is not complete."""

from collections.abc import Iterator
from dataclasses import dataclass

from backfilld.core.backfill.outcome import Outcome, is_unknown_symbol, missing_sentences
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument, iso
from backfilld.core.sync.attempt import Attempt
from backfilld.errors import BackfillError


@dataclass(frozen=True, slots=True)
class Account:
    """What an outcome is made from. ``is_part``: days are to come from the archive, or another plan is needed before
    the first round is over. REST does not answer for times before ``unreachable_before_ms``."""

    instrument: Instrument
    attempt: Attempt
    is_part: bool
    unreachable_before_ms: int | None
    conflicts: int
    fetched: int
    seconds: float
    requests: int
    weight: int


def outcome_of(account: Account) -> Outcome:
    """The outcome so far, without figures."""
    plan, error = account.attempt.plan, account.attempt.error
    doubts = tuple(_doubts(account))
    complete = plan.is_complete and not (doubts or account.is_part or error)
    reasons = [_explained(error)] if error else [each.reason for each in plan.failures]
    reasons += [*missing_sentences(plan.missing), *doubts]
    if not complete and not reasons:
        reasons.append("it was stopped before it was complete")
    trades = plan.received.rows
    return Outcome(
        instrument=account.instrument,
        complete=complete,
        trades=trades,
        cached=max(0, trades - account.fetched),
        seconds=account.seconds,
        requests=account.requests,
        weight=account.weight,
        missing=plan.missing,
        reasons=tuple(dict.fromkeys(reasons)),
        error=error,
    )


def _doubts(account: Account) -> Iterator[str]:
    """Why the window is not complete although no id is missing between the known ones."""
    if account.unreachable_before_ms is not None:
        until = iso(account.unreachable_before_ms)
        yield f"the exchange answers nothing of before {until}, and the archive has not all of it"
    for end in sorted(account.attempt.unproven_ends):
        yield f"nothing proves with which trade it {end}: neither the exchange nor the archive says"
    yield from map(_unsealed, account.attempt.unsealed_days)
    for ids in account.attempt.known_days.unstored[:1]:
        yield f"ids {ids.first_id} to {ids.last_id} came and are not stored"
    if account.conflicts:
        yield f"{account.conflicts} trades conflict with others under the same id"


def _unsealed(record: Certificate) -> str:
    """Why a day that is over is not sealed, by its own file: ids that other days hold do not help it."""
    if record.holes:
        why = f"its file lacks ids {record.holes[0].first_id} to {record.holes[0].last_id}"
    else:
        why = f"nothing proves with which trade it {'ends' if record.opened else 'begins'}"
    return f"{record.day} is not sealed: {why}"


def _explained(error: BackfillError) -> str:
    if is_unknown_symbol(error):
        return f"the exchange lists no such symbol ({error})"
    return str(error)
