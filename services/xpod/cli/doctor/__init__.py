"""`xpod doctor`: is this machine, and the pod on it, as it should be?"""
