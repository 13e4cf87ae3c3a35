"""OpenAI's Responses API: answers that have a name, and can be read again, through any router.

Knows: requests, items, events, and what is kept of a response. Does not know: how tokens are made, or where anything
is kept; they are behind `Engine` and `Shelf`.
"""
