"""Look at pages that we write: their elements, and what a browser makes of them."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


class Elements(html.parser.HTMLParser):
    """Collect the start tags; HTML without closing tags fails."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "br", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@dataclass(frozen=True)
class Opened:
    """What a browser made of a page.

    Attributes:
        document: the page after its scripts have run.
        complaints: lines of its console.
        asked: addresses that the page asked for, beside itself.
    """

    document: str
    complaints: list[str]
    asked: list[str]


def open_in_browser(page: Path, folder: Path, *, width: int = 500) -> Opened:
    """Open a page in Chromium; ``folder`` gets its profile and its log."""
    log = folder / "net.json"
    result = subprocess.run(
        [
            CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
            "--enable-logging=stderr", "--v=0", f"--window-size={width},900", "--virtual-time-budget=500",
            "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    # The browser's own requests come from no origin, the page's from "null".
    requests = re.findall(r'"initiator":"([^"]*)"[^}]*?"url":"([^"]*)"', log.read_text())
    asked = [url for initiator, url in requests if initiator != "not an origin"]
    return Opened(
        result.stdout,
        [line for line in result.stderr.splitlines() if "CONSOLE" in line],
        [url for url in asked if not url.startswith(("file:", "data:"))],
    )
