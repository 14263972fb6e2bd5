"""The page: the template with all its parts in place."""

from functools import cache
from pathlib import Path
from string import Template
from urllib.parse import quote

from backfilld.core.markets import Pool
from backfilld.services.stored_days import MARKS
from backfilld.serving.monitor.live_section import live_rows
from backfilld.serving.monitor.markup import joined, tag
from backfilld.serving.monitor.parts import drawings, parts
from backfilld.serving.monitor.view import View

_HERE = Path(__file__).parent


def page(view: View) -> str:
    """The HTML document."""
    every = {name.replace("-", "_"): text for name, text in (parts(view) | drawings(view)).items()}
    weight = (
        _template("weight.html").substitute(
            pool=pool,
            sum=every[f"weight_{pool}_sum"],
            drawn=every[f"weight_{pool}_drawn"],
            rows=every[f"weight_{pool}_rows"],
        )
        for pool in Pool
    )
    return _template("page.html").substitute(
        {"calendar_sum": ""}
        | every
        | {
            "chosen": joined(str(view.chosen)),
            "chosen_in_url": quote(str(view.chosen)),
            "version": joined(view.version),
            "live_rows": live_rows(view),
            "weight_sections": "".join(weight),
            "marks": joined(*(tag("th", mark, scope="col") for mark in MARKS)),
        }
    )


@cache
def _template(name: str) -> Template:
    return Template((_HERE / name).read_text(encoding="utf-8"))
