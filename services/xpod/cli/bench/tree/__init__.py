"""The prompt tree of a router: how long a prompt takes to match, and what a block takes of memory."""
