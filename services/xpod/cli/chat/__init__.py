"""`xpod chat`: a conversation with the pod."""
