"""How often each key was used to encrypt, by this cache: a key wears out.

AES-GCM with random nonces bears 2^32 uses of a key (NIST SP 800-38D, 8.3), one for each page, page header and footer. A
day of a million trades that is rewritten every five minutes uses a key about 2,000 times an hour. Owns the count, which
outlives crashes: uses are reserved in blocks before they happen, so it may be too high, and is never too low.
"""

from pathlib import Path

import structlog

from backfilld.store.format.keys import Key
from backfilld.store.layout import state_directory
from backfilld.store.state_file import load_state, save_state

log = structlog.get_logger()

MOST_USES = 1 << 32
WORN_USES = 1 << 31
"""From here on a warning asks for another key: half of what a key bears, and other hosts may use it too."""

BLOCK_USES = 4096
"""Uses that are reserved at a time: about 25 day files of a million trades."""


class KeyWear:
    """Counts the uses of keys for one cache directory. One thread counts at a time: files are saved one by one."""

    def __init__(self, cache_dir: Path) -> None:
        self._path = state_directory(cache_dir) / "key_wear.json"
        self._left: dict[str, int] = {}
        self._warned: set[str] = set()

    def used(self, key: Key, uses: int) -> None:
        """Count uses of a key; warn once a process of one that is worn. Raises StoreError."""
        left = self._left.get(key.fingerprint, 0)
        if left < uses:
            left += self._reserve(key, max(BLOCK_USES, uses))
        self._left[key.fingerprint] = left - uses

    def _reserve(self, key: Key, uses: int) -> int:
        counts = key_uses(self._path)
        total = counts.get(key.fingerprint, 0) + uses
        save_state(self._path, counts | {key.fingerprint: total})
        if total >= WORN_USES and key.fingerprint not in self._warned:
            self._warned.add(key.fingerprint)
            log.warning("key_worn", key=key.id, uses=total, limit=MOST_USES)
        return uses


def key_uses(path: Path) -> dict[str, int]:
    """How often keys were used, by fingerprint; nothing where that is not what this program writes. Raises
    StoreError."""
    return load_state(path, dict[str, int]) or {}
