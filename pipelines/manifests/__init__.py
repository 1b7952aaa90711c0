"""What kubectl applies to a cluster before the first run."""
