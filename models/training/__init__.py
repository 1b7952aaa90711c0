"""Training: data, loop, devices, processes, and the commands and jobs that start them."""
