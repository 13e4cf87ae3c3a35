"""`xpod bench prefix`: the time to the first token of prompts whose beginning is known, and of those whose is not."""
