"""The fastest way to run a trained generator: candidates found on this machine, measured, and one of them chosen."""
