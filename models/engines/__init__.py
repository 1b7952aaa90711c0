"""Ways to run a trained generator: one file for each library, all with the same noise in and the same showers out."""
