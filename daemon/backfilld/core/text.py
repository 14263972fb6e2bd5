"""Text from outside, made fit for one line of a log, a terminal, an error or a file name.

Owns the one rule for text that we did not write: messages of the exchange, headers, certificates, names in zips. Such
text must pass through :func:`plain` before it goes anywhere.
"""

PLAIN_LENGTH = 200
"""Characters of a foreign text that are kept: a sentence and its figures."""

_LOOKED_AT = 4
"""Characters read for each one kept: a text of megabytes costs no more than one of a line."""


def plain(text: str, limit: int = PLAIN_LENGTH) -> str:
    """The text on one line of at most ``limit`` printable characters; what is cut ends in ``...``.

    Control and format characters, separators of lines and paragraphs and lone surrogates become a space: none of them
    can start a line, move a cursor, carry a second systemd variable or fail to encode.
    """
    looked_at = text[: _LOOKED_AT * limit]
    words = "".join(each if each.isprintable() else " " for each in looked_at).split()
    line = " ".join(words)
    if len(line) <= limit and len(looked_at) == len(text):
        return line
    return f"{line[: limit - 3].rstrip()}..."
