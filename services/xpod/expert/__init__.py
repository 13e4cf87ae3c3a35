"""Expert shards: pure functions from rows to rows, for the experts that they hold."""
