"""`xpod chaos`: faults on purpose, under load, and what the clients saw of them."""
