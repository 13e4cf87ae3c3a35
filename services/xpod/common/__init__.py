"""What every service shares: settings, the view of the pod, the process entry."""
