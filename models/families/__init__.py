"""Generator families: named combinations of network, objective and sampler."""
