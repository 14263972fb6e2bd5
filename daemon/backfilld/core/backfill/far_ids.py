"""An id far above all others counts only once two answers have named such an id.

Owns the memory of the first of the two.
"""

from backfilld.core.backfill.answers import MOST_GROWTH


class FarIds:
    """Tells far ids from near ones, by how far they are from the last one known."""

    def __init__(self) -> None:
        self._alone: int | None = None

    def came_first(self, trade_id: int, last_id: int | None) -> bool:
        """Whether the last known id is far above this one. It is then the far id that one answer alone has named."""
        is_far = last_id is not None and last_id - trade_id > MOST_GROWTH
        if is_far:
            self._alone = last_id
        return is_far

    def accepts(self, trade_id: int, last_id: int | None) -> bool:
        """Whether the id is near the last known one, or near a far id that came before."""
        if last_id is None or abs(trade_id - last_id) <= MOST_GROWTH:
            return True
        is_second = self._alone is not None and abs(trade_id - self._alone) <= MOST_GROWTH
        self._alone = trade_id
        return is_second
