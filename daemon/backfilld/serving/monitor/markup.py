"""HTML and SVG as values: every text is escaped, unless it is markup that was made here."""

from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """An element. ``class_`` is the attribute ``class``, ``_`` in names becomes ``-``; attributes of None are left
    out."""
    words = (f' {_name(key)}="{escape(str(value))}"' for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{''.join(words)}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """The children one after the other."""
    return Markup("".join(each if isinstance(each, Markup) else escape(each) for each in children))


def row(*texts: str) -> Markup:
    """A row of a table, whose first cell names it."""
    return tag("tr", cells(*texts))


def cells(head: str, *texts: str) -> Markup:
    """The cells of a row that stands already; the first one names it."""
    return joined(tag("th", head, scope="row"), *(tag("td", each) for each in texts))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


Parts = dict[str, Markup]
"""The HTML inside of elements, by their ids."""


def figure_list(*figures: tuple[str, str]) -> Markup:
    """Names and figures, as a list that wraps."""
    return joined(*(tag("div", tag("dt", name), tag("dd", value)) for name, value in figures))


def empty_row(columns: int, text: str) -> Markup:
    """The row of a table that has no other: it says so."""
    return tag("tr", tag("td", text, colspan=columns))
