"""`xpod bench compare`: a pod and its peers, measured in turn."""
