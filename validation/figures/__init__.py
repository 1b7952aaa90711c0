"""What physicists quote of a sample: response, resolution, shapes, key figures in bins, memorisation."""
