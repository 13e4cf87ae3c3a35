"""`xpod top`: a pod, live, in a terminal."""
