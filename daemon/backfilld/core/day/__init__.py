"""One UTC day: its certificate, the ids that the exchange does not have, its anomalies and its figures."""
