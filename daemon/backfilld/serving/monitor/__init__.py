"""What the endpoint shows of the daemon itself: metrics, health, and the page. Needs the extra ``[serve]``."""
