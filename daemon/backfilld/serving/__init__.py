"""The local endpoint: REST, streams and pages for the programs of this machine. Needs the extra ``[serve]``."""
