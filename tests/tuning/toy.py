"""A trial that takes no time: the objective is the distance of two parameters from a point."""

# ruff: noqa: T201
import os
import sys
import time

mode, *arguments = sys.argv[1:]
values = dict(argument.removeprefix("--set=").split("=") for argument in arguments if argument.startswith("--set="))
distance = (float(values.get("training.learning_rate", 0)) * 1e3 - 3) ** 2
distance += (float(values.get("training.batch_size", 64)) / 16 - 4) ** 2
print("12:00:00  a line of a log, train-loss = 0.5")
if mode == "fails":
    sys.exit("out of memory")
if mode == "refuses" or (mode == "refuses_large" and float(values["training.batch_size"]) > 40):
    print("Error: showers.hdf5: 3 showers to judge by; a trial needs 20 or more")
    sys.exit(2)
if mode == "sleeps" or (mode == "second_sleeps" and not os.environ["KATIB_TRIAL_NAME"].endswith("0")):
    time.sleep(60)
if mode == "nan":
    distance = float("nan")
if mode == "curve":
    for step in range(5):
        print(f"fpd={distance + 10 - step}", flush=True)
    time.sleep(0.3)
print(f"fpd={distance:.6g}" if mode != "silent" else "done")
