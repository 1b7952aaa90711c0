"""One thin Kubeflow Pipelines component per step."""
