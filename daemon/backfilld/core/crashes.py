"""What a crash is called in the log: each cause in one line."""

from collections.abc import Iterator


def described(error: BaseException) -> Iterator[str]:
    """Each cause in a line: what it is, and where it was raised."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from described(each)
        return
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"
        trace = trace.tb_next
    yield f"{type(error).__name__}: {error}{place}"
