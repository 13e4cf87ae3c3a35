"""`xpod bench turns`: conversations, under each way of reusing what prompts have in common."""
