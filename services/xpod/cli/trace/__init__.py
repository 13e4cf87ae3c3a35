"""`xpod trace`: where the time of a request went."""
