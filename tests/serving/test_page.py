"""The page as HTML: well formed, the same with script and without, and nothing in it that a policy must forbid."""

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import backfilld.serving.monitor
from backfilld.core.live.reports import LiveInstrument
from backfilld.core.monitor.freshness import Freshness
from backfilld.core.monitor.snapshot import DiskTrouble, Snapshot
from backfilld.serving.monitor.live_section import of_live, row_id, verdict
from backfilld.serving.monitor.page import page
from backfilld.serving.monitor.parts import drawings, parts
from backfilld.serving.monitor.series import newer, series
from backfilld.serving.monitor.view import View
from tests.fakes import BTC, ETH
from tests.serving.views import HOSTILE, NOW_MS, full_view

STATIC = Path(backfilld.serving.monitor.__file__).parent / "static"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Tags in their nesting, their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def view() -> View:
    return full_view()


@pytest.fixture(scope="module")
def outline(view: View) -> Outline:
    return Outline(page(view))


def test_it_is_well_formed_and_every_id_is_one(outline: Outline) -> None:
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))


def test_every_part_has_its_place(view: View, outline: Outline) -> None:
    assert set(parts(view)) | set(drawings(view)) <= set(outline.ids)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(outline: Outline) -> None:
    for tag, attributes in outline.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag != "style"
        for name in ("src", "href", "data-events"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), attributes
        assert tag != "script" or attributes.get("src")


def test_text_from_outside_stays_text(outline: Outline) -> None:
    assert HOSTILE in outline.texts


def test_what_a_screen_reader_needs_is_there(outline: Outline) -> None:
    tags = [tag for tag, _ in outline.tags]
    assert [tags.count(name) for name in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
    labelled = [attributes.get("aria-labelledby") for tag, attributes in outline.tags if tag == "section"]
    assert set(labelled) <= set(outline.ids)
    for tag, attributes in outline.tags:
        if tag == "svg":
            assert attributes.get("aria-label"), attributes
        if tag == "th":
            assert attributes.get("scope"), attributes


def test_the_sections_stand_in_the_order_that_people_ask(outline: Outline) -> None:
    named = [attributes.get("aria-labelledby") for tag, attributes in outline.tags if tag == "section"]
    wanted = [
        "live-h",
        "coverage-h",
        "price",
        "weight-spot-h",
        "weight-futures-h",
        "rate-h",
        "holes-h",
        "log-h",
        "users-h",
    ]
    assert named == wanted


def test_behind_each_chart_is_a_table(view: View) -> None:
    sections = re.findall(r"<section.*?</section>", page(view), re.DOTALL)
    drawn = [each for each in sections if "<svg" in each]
    assert len(drawn) == 5
    for section in drawn:
        assert re.search(r"<details>.*<tbody[^>]*><tr>", section, re.DOTALL), section[:200]


def test_figures_are_those_of_the_view(view: View) -> None:
    found = parts(view)
    assert "85,599" in found["price-sum"]
    assert "3" in found["holes-sum"]
    assert "7 to 9" in found["holes-rows"]
    assert "healing a hole" in found[row_id(ETH)]
    assert "12 ms" in found[row_id(BTC)]
    assert found["calendar-sum"].startswith("2 sealed, 1 partial, 1 missing, 1 bad, 1 locked")


def test_what_is_not_known_is_not_a_number() -> None:
    empty = View(Snapshot(NOW_MS, 0.0, (BTC,)), "1", BTC)
    html = page(empty)
    assert "not been read yet" in html
    assert "No trade of today is here yet." in html
    assert "Nothing has been asked of this pool." in html
    assert re.search(r"<td>0</td>", html) is None


@pytest.mark.parametrize(
    ("changed", "mood", "words"),
    [
        ({"budgets": {}}, "good", "Live and complete: all 2 instruments"),
        ({}, "bad", "futures: rate limited"),
        ({"trouble": DiskTrouble("disk full")}, "bad", "disk full"),
        ({"budgets": {}, "freshness": {BTC: Freshness()}}, "busy", "spot:BTCUSDT: not complete yet"),
        ({"budgets": {}, "freshness": {BTC: Freshness(False, NOW_MS - 90_000)}}, "busy", "spot:BTCUSDT: 90 s behind"),
    ],
)
def test_the_first_sentence_says_how_it_stands(view: View, changed: dict[str, object], mood: str, words: str) -> None:
    found, sentence = verdict(replace(view, daemon=replace(view.daemon, **changed)))  # type: ignore[arg-type]
    assert (found, words in sentence) == (mood, True), sentence


def test_a_stream_that_brings_nothing_is_named_and_not_shown_as_live(view: View) -> None:
    """The subscription was acknowledged; REST has trades that it does not bring."""
    live = replace(view.daemon.live, instruments={BTC: LiveInstrument(is_attached=False, is_silent=True)})
    fresh = {BTC: Freshness(is_attached=False, complete_ms=NOW_MS - 999)}
    now = replace(view, daemon=replace(view.daemon, live=live, freshness=fresh, instruments=(BTC,), budgets={}))
    assert verdict(now) == (
        "busy",
        "Complete: 0 of 1 instruments live, the others polled; the stream does not bring the trades of 1",
    )
    (row,) = of_live(now).values()
    assert "polled: silent stream" in row
    assert "1 polled because the stream does not bring their trades" in live.text


def test_the_first_sentence_changes_only_when_that_does(view: View) -> None:
    """A screen reader reads it aloud each time."""
    live = replace(view.daemon.live, instruments={BTC: LiveInstrument(is_attached=True, lag_ms=999.0)})
    fresh = {BTC: Freshness(is_attached=True, complete_ms=NOW_MS - 999)}
    now = replace(view.daemon, live=live, freshness=fresh, instruments=(BTC,))
    later = replace(now, wall_ms=NOW_MS + 1)
    assert verdict(replace(view, daemon=now)) == verdict(replace(view, daemon=later))


def test_only_points_that_are_new_or_grew_are_sent(view: View) -> None:
    everything = series(view)
    assert newer({}, everything) == {name: [list(each) for each in of] for name, of in everything.items()}
    assert newer(everything, everything) == {}
    before = {name: [column[:3] for column in of] for name, of in everything.items()}
    sent = newer(before, everything)
    assert sent["price"][0] == everything["price"][0][2:]


def test_what_is_vendored_is_what_its_note_says() -> None:
    note = json.loads((STATIC / "VENDORED.json").read_text())
    assert note["license"] == "MIT"
    assert set(note["files"]) == {each.name for each in STATIC.glob("uplot.*")}
    for name, sha256 in note["files"].items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == sha256, name
    assert f"(v{note['version']})" in (STATIC / "uplot.js").read_text()[:100]


def test_our_own_script_is_small() -> None:
    assert len((STATIC / "page.js").read_text().splitlines()) < 150


def _luminance(colour: str) -> float:
    parts_ = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts_]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_has_contrast_in_both_themes() -> None:
    themes = re.findall(r":root \{(.*?)\}", (STATIC / "page.css").read_text(), re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for text in ("text", "quiet", "link", "good", "busy", "bad"):
            for ground in ("ground", "card", "grid"):
                light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
