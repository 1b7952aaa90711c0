"""The container image in which the components run on a cluster."""

from caloforge.pods import IMAGE

__all__ = ["IMAGE"]
