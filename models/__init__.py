"""Generators: networks, families, training, bundles and export."""
