"""Every Binance aggregate trade of an instrument on disk: gap-free by id, resumed in a second, never banned."""
