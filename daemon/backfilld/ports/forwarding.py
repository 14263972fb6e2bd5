"""What the endpoint needs of the exchange: somebody who asks it for another program, under the governor's permits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from backfilld.core.model import Market
from backfilld.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Passed:
    """The exchange's own answer: the body unpacked and otherwise as it came, header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Forwarder(Protocol):
    """Asks the exchange for another program."""

    async def forward(
        self, market: Market, target: str, weight: int, patience_s: float, headers: Mapping[str, str]
    ) -> Passed | ExchangeError:
        """GET ``target``, a path with its query, with these headers besides our own.

        Any answer of the exchange is a result, refusals included. RateLimited where no permit comes within
        ``patience_s``; TransientError where no answer came.
        """
        ...
