"""Serve a generator bundle with KServe, and query it."""
