"""The log of a step: what is ours in it, and why it ended."""

import re
from collections.abc import Iterator

from caloforge.ending import MARK, one_line, read_ending
from caloforge.logs import LINE

_LAUNCHER = re.compile(
    r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [\w.-]+:\d+\]"  # Kubeflow's launcher, in Google's format
    r"|time=\"?\d{4}-\d\d-\d\dT.* level=\w+ .*msg="  # Argo
    r"|\[KFP Executor [^\]]*\]:"
)
_OURS = re.compile(rf"{LINE.pattern}|Traceback ")
_FATAL = re.compile(r"F\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [\w.-]+:\d+\] (.+)")
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning))(?:: (.*))?$")


def own_lines(log: str) -> Iterator[str]:
    """Yield the lines of a step's log that are not the launcher's, whose messages may be JSON of many lines."""
    depth = 0
    for line in log.splitlines():
        if _LAUNCHER.match(line):
            depth = _depth(line)
        elif depth > 0 and not _OURS.match(line):
            depth += _depth(line)
        elif MARK not in line:
            depth = 0
            yield line


def cause(log: str) -> str:
    """Return why a step failed, as its log tells it; empty if it does not.

    Steps say it themselves. What ended before or after our code has the launcher's last words, and a
    step of an older version the last line of its traceback.
    """
    ending = read_ending(log)
    if ending is not None and ending.state == "failed":
        return ending.cause
    lines = log.splitlines()
    if ending is None:
        for line in reversed(lines):
            if found := _EXCEPTION.match(line):
                own = line.startswith("caloforge.")
                return one_line(found[2] if own and found[2] else line)
    return next((one_line(found[1]) for line in reversed(lines) if (found := _FATAL.match(line))), "")


def _depth(line: str) -> int:
    """Return by how much deeper the lines after one are, in JSON that was laid out for people."""
    text = line.strip().rstrip(",")
    return text.endswith(("{", "[")) - text.startswith(("}", "]"))
