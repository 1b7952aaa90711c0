"""Runs on Kubeflow Pipelines: start them, watch them, bring their results."""
