"""Who does it: the services of a pod and its command line."""
