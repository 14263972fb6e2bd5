"""What a daemon shows of itself over time: histories of bounded length, and the figures of today."""
