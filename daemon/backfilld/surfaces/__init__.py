"""Where people and the operating system meet the daemon: command line, signals, logs, progress."""
