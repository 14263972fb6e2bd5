"""Following a stream of trades: which id comes next, what is missing, whether the stream lives."""
