"""The container image in which the components run on a cluster."""

from caloforge import __version__

IMAGE = f"ghcr.io/caloforge/python-caloforge:{__version__}"
"""Never ``latest``: the tag is part of Kubeflow's cache key. kfp.local looks for "python" in it."""
