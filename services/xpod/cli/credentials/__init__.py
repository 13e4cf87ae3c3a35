"""What members and NATS nodes show one another: keys, certificates, and the configuration that follows from them."""
