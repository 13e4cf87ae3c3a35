"""What is decided: plain objects that turn events into instructions, without I/O, clock or torch."""
