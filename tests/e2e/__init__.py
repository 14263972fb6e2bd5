"""The process from outside: real signals, real sockets, real files."""
