"""Losses of a batch: what a network is trained for."""
