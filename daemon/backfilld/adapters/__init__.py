"""The only code that knows HTTP and threads. Foreign errors are translated here, once."""
