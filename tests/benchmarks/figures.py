"""A figure, the reference beside it, and how both are shown. Must not measure anything."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, less being better, beside what was measured of ``against`` in the same run.

    ``most`` is the goal for the value, ``most_ratio`` the goal for value / reference.
    """

    name: str
    value: float
    unit: str
    against: str = ""
    reference: float | None = None
    most: float | None = None
    most_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value / reference, None where there is no such number."""
        return self.value / self.reference if self.reference else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goals are met, None without a goal."""
        verdicts = []
        if self.most is not None:
            verdicts.append(self.value <= self.most)
        if self.most_ratio is not None and self.ratio is not None:
            verdicts.append(self.ratio <= self.most_ratio)
        return all(verdicts) if verdicts else None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "against": self.against,
            "reference": self.reference,
            "ratio": self.ratio,
            "most": self.most,
            "most_ratio": self.most_ratio,
            "met": self.is_met,
        }


def print_figures(title: str, figures: Iterable[Figure], console: Console) -> None:
    """Print one benchmark's figures as a table."""
    table = Table(title=title, title_style="bold", title_justify="left")
    table.add_column("what", overflow="fold")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("against", overflow="fold")
    for name in ("reference", "ratio", "goal"):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.name,
            f"{_number(figure.value)} {figure.unit}",
            figure.against,
            "" if figure.reference is None else _number(figure.reference),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            _goal(figure),
        )
    console.print(table)


def _goal(figure: Figure) -> str:
    goals = []
    if figure.most is not None:
        goals.append(f"≤ {_number(figure.most)} {figure.unit}".strip())
    if figure.most_ratio is not None:
        goals.append(f"ratio ≤ {figure.most_ratio:g}")
    colour = "green" if figure.is_met else "red"
    return f"[{colour}]{', '.join(goals)} {'met' if figure.is_met else 'MISSED'}" if goals else ""


def _number(value: float) -> str:
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
