"""After a refusal: the silence that was asked for, one request alone, and a smaller share after a ban."""

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfilld.core.weight.pauses import (
    DAY_MS,
    LEAST_CAUTION,
    LONGEST_SILENCE_MS,
    MINUTE_MS,
    PROBE_MS,
    Pauses,
    Reason,
)

NAMED = st.sampled_from([Reason.LIMITED, Reason.BANNED])
LENGTHS_MS = st.integers(0, 10 * int(MINUTE_MS))


# -- the model


@dataclass
class Client:
    """Sends whenever it may, and tells of every answer. Time stands in whole ms."""

    pauses: Pauses = field(default_factory=Pauses)
    now_ms: int = 0
    flying: list[object] = field(default_factory=list)
    sent_ms: list[int] = field(default_factory=list)

    def try_to_send(self) -> bool:
        if self.pauses.wait_ms(self.now_ms) > 0:
            return False
        ticket = object()
        self.pauses.sent(ticket, self.now_ms)
        self.flying.append(ticket)
        self.sent_ms.append(self.now_ms)
        return True

    def end(self, place: int, *, accepted: bool) -> object:
        ticket = self.flying.pop(place % len(self.flying))
        self.pauses.ended(ticket, accepted=accepted)
        return ticket


SEND = st.just(("send",))
END = st.tuples(st.just("end"), st.integers(0, 5), st.booleans())
SLEEP = st.tuples(st.just("sleep"), st.sampled_from([1, 1000, int(PROBE_MS), int(4 * MINUTE_MS)]))
PAUSE = st.tuples(st.just("pause"), NAMED, st.sampled_from([0, 1000, int(MINUTE_MS)]))
PAGE = st.just(("page",))
STEPS = st.lists(st.one_of(SEND, SEND, SEND, END, END, SLEEP, SLEEP, PAUSE, PAGE), min_size=5, max_size=80)


@given(STEPS)
def test_after_any_refusal_nothing_is_sent_until_its_end_and_then_one_alone_until_one_is_accepted(
    steps: list[tuple[object, ...]],
) -> None:
    """Whatever was under way before, is lost, or is refused again."""
    client = Client()
    ends_ms, probe, probe_ms, must_probe = 0, None, 0, False
    for name, *arguments in steps:
        match name, arguments:
            case "sleep", [int(length_ms)]:
                client.now_ms += length_ms
            case "end", [int(place), bool(accepted)] if client.flying:
                if client.end(place, accepted=accepted) is probe:
                    probe, must_probe = None, must_probe and not accepted
            case "pause", [Reason() as reason, int(length_ms)]:
                client.pauses.pause(client.now_ms, client.now_ms + length_ms, reason)
                ends_ms, probe, must_probe = max(ends_ms, client.now_ms + length_ms), None, True
            case "page", []:
                client.pauses.pause(client.now_ms, None, Reason.BLOCKED)
                ends_ms, probe, must_probe = int(max(ends_ms, client.pauses.until_ms)), None, True
            case "send", []:
                is_alone = probe is None or client.now_ms >= probe_ms + PROBE_MS
                may = client.now_ms >= ends_ms and (is_alone or not must_probe)
                assert client.try_to_send() == may
                if may and must_probe:
                    probe, probe_ms = client.flying[-1], client.now_ms


@given(st.lists(st.tuples(st.integers(0, 60_000), NAMED, LENGTHS_MS), min_size=1))
def test_a_pause_ends_at_the_latest_of_all_that_were_named_to_the_ms(pauses: list[tuple[int, Reason, int]]) -> None:
    paused, now_ms, latest_ms = Pauses(), 0, 0
    for quiet_ms, reason, length_ms in pauses:
        now_ms += quiet_ms
        latest_ms = max(latest_ms, now_ms + length_ms)
        paused.pause(now_ms, now_ms + length_ms, reason)
        assert paused.until_ms == latest_ms
        assert paused.wait_ms(now_ms) == latest_ms - now_ms
    assert paused.wait_ms(latest_ms) == 0


# -- pages of the CDN


def test_a_page_of_the_cdn_means_a_minute_and_each_further_one_twice_as_long_up_to_sixteen() -> None:
    paused, now_ms, pauses_min = Pauses(), 0.0, []
    for _ in range(7):
        paused.pause(now_ms, None, Reason.BLOCKED)
        pauses_min.append((paused.until_ms - now_ms) / MINUTE_MS)
        now_ms = paused.until_ms
        paused.sent("probe", now_ms)
    assert pauses_min == [1, 2, 4, 8, 16, 16, 16]
    assert LONGEST_SILENCE_MS == 16 * MINUTE_MS


@given(st.integers(1, 20))
def test_pages_that_answer_requests_already_under_way_are_one_refusal(pages: int) -> None:
    """Five in flight meet the same page: a minute of silence, not sixteen."""
    paused = Pauses()
    for place in range(pages):
        paused.pause(place, None, Reason.BLOCKED)
    assert paused.until_ms == pages - 1 + MINUTE_MS


def test_a_good_probe_lets_the_next_page_begin_at_a_minute_again() -> None:
    paused = Pauses()
    for now_ms in (0.0, MINUTE_MS):
        paused.pause(now_ms, None, Reason.BLOCKED)
    paused.sent("probe", paused.until_ms)
    paused.ended("probe", accepted=True)
    now_ms = paused.until_ms + 1
    paused.pause(now_ms, None, Reason.BLOCKED)
    assert paused.until_ms == now_ms + MINUTE_MS


def test_a_silence_that_began_before_the_start_counts_as_the_first() -> None:
    paused = Pauses(until_ms=1000, reason=Reason.BLOCKED)
    paused.pause(1000, None, Reason.BLOCKED)
    assert paused.until_ms == 1000 + 2 * MINUTE_MS


# -- the probe


@pytest.mark.parametrize("reason", Reason)
def test_a_pause_that_began_before_the_start_is_kept_and_one_goes_alone_after_it(reason: Reason) -> None:
    paused = Pauses(until_ms=5000, reason=reason)
    assert paused.wait_ms(1000) == 4000
    assert paused.wait_ms(5000) == 0
    paused.sent("probe", 5000)
    assert paused.wait_ms(5001) == PROBE_MS - 1
    paused.ended("probe", accepted=True)
    assert paused.wait_ms(5001) == 0
    assert paused.reason is None


def test_a_refused_or_lost_probe_lets_one_more_go_alone_and_an_accepted_one_all() -> None:
    paused = Pauses(until_ms=0, reason=Reason.LIMITED)
    paused.sent("refused", 0)
    paused.ended("refused", accepted=False)
    paused.sent("lost", 1)
    assert paused.wait_ms(2) == PROBE_MS - 1
    paused.sent("accepted", 1 + PROBE_MS)
    assert paused.wait_ms(1 + PROBE_MS) == PROBE_MS
    paused.ended("accepted", accepted=True)
    for number in range(3):
        assert paused.wait_ms(2 + PROBE_MS) == 0
        paused.sent(number, 2 + PROBE_MS)


def test_without_a_refusal_nobody_goes_alone() -> None:
    paused = Pauses()
    for number in range(5):
        assert paused.wait_ms(0) == 0
        paused.sent(number, 0)


def test_a_request_sent_before_the_pause_does_not_end_it() -> None:
    """Its good end tells nothing of what the exchange thinks of us now."""
    paused = Pauses()
    paused.sent("early", 0)
    paused.pause(10, 1000, Reason.LIMITED)
    paused.ended("early", accepted=True)
    assert paused.reason is Reason.LIMITED
    paused.sent("probe", 1000)
    assert paused.wait_ms(1001) > 0


def test_a_probe_of_an_earlier_pause_does_not_end_a_later_one() -> None:
    paused = Pauses()
    paused.pause(0, 1000, Reason.LIMITED)
    paused.sent("first probe", 1000)
    paused.pause(1001, 2000, Reason.BANNED)
    paused.ended("first probe", accepted=True)
    paused.sent("second probe", 2000)
    assert paused.wait_ms(2001) > 0


@given(st.lists(st.sampled_from(Reason), min_size=1, max_size=6), LENGTHS_MS)
def test_the_reason_shown_is_that_of_the_pause_which_lasts_longest(reasons: list[Reason], length_ms: int) -> None:
    paused = Pauses()
    for reason in reasons:
        paused.pause(0, length_ms, reason)
    assert paused.reason is reasons[0], "an equal or shorter one changes nothing"
    paused.pause(0, length_ms + 1, Reason.BANNED)
    assert paused.reason is Reason.BANNED


# -- care after bans


def test_half_the_share_after_a_ban_a_quarter_after_the_second_and_never_less_than_an_eighth() -> None:
    paused, now_ms, parts = Pauses(), 0.0, []
    for _ in range(5):
        paused.pause(now_ms, now_ms + 1000, Reason.BANNED)
        now_ms += 2000
        parts.append(paused.caution(now_ms))
    assert parts == [1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 8]
    assert parts[-1] == LEAST_CAUTION


EDGES_MS = st.builds(
    lambda base_ms, off_ms: int(base_ms) + off_ms,
    st.sampled_from([MINUTE_MS, 10 * MINUTE_MS, 20 * MINUTE_MS, 40 * MINUTE_MS, DAY_MS / 2, DAY_MS - 10 * MINUTE_MS]),
    st.integers(-1, 1),
)


@given(st.lists(EDGES_MS, min_size=1, max_size=6), EDGES_MS)
@example([1], 10 * int(MINUTE_MS) + 1)
@example([1], 10 * int(MINUTE_MS))
@example([1, int(DAY_MS) - 5], 6)
def test_care_lasts_ten_minutes_and_twice_as_long_for_each_further_ban_of_the_day(
    gaps_ms: list[int], later_ms: int
) -> None:
    bans = [sum(gaps_ms[: place + 1]) for place in range(len(gaps_ms))]
    now_ms = bans[-1] + later_ms
    of_the_day = [end_ms for end_ms in bans if end_ms > now_ms - DAY_MS]
    is_over = not of_the_day or later_ms > 10 * MINUTE_MS * 2 ** (len(of_the_day) - 1)
    expected = 1.0 if is_over else max(1 / 8, 0.5 ** len(of_the_day))
    assert Pauses(bans).caution(now_ms) == expected
    assert Pauses(bans[1:]).caution(now_ms) >= expected, "the fewer bans, the more may be used"


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1000, 5000)), min_size=1, max_size=8))
def test_what_is_answered_during_a_ban_is_the_same_ban(answers: list[tuple[int, int]]) -> None:
    """Five requests in flight are answered 418: we were banned once, until the latest that was named."""
    paused, now_ms = Pauses(), 0
    for quiet_ms, length_ms in answers:
        now_ms += quiet_ms
        paused.pause(now_ms, now_ms + length_ms, Reason.BANNED)
    assert paused.bans == [paused.until_ms]


@pytest.mark.parametrize("reason", [Reason.LIMITED, Reason.BLOCKED])
def test_no_other_refusal_makes_us_careful(reason: Reason) -> None:
    paused = Pauses()
    paused.pause(0, 1000, reason)
    assert paused.caution(2000) == 1.0
    assert not paused.bans


def test_bans_of_more_than_a_day_ago_are_forgotten() -> None:
    """A daemon runs for months."""
    paused = Pauses()
    for day in range(30):
        paused.pause(day * DAY_MS, day * DAY_MS + 1000, Reason.BANNED)
        assert len(paused.bans) <= 2
