"""The metrics, each a function of two samples, and their application to a pair of samples."""
