"""One instrument over the life of a daemon, and all of them."""
