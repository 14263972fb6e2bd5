"""Request weight: what may be spent, what was spent, by whom, and when the exchange said to pause."""
