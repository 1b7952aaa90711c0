"""What a cluster lacks for the pipeline."""
