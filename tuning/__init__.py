"""Search spaces, trials, and their optimisation on a cluster (Katib) or here (Optuna)."""
