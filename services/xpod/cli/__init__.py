"""The command line and the local launcher.

Knows: processes on this machine, compose.yaml, and a router's HTTP interface.
Does not know: what travels on the bus, or anything of models beyond "this directory is one". Never loads torch.
"""
