"""Backbones, and what is built of them: networks know nothing of losses, samplers or MeV."""
