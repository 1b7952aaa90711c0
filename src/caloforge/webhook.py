"""Tell a chat or another service that a run has ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import httpx

from caloforge.secrets import masked

logger = logging.getLogger(__name__)

WEBHOOK = "CALOFORGE_WEBHOOK"
"""Environment variable: the address to post to. Whoever knows it can post, so it comes from a Secret."""

TIMEOUT_SECONDS = 20.0


def final_status(status: Any, *, pipeline: str, run: str, run_id: str) -> dict[str, Any]:
    """Return the summary of a run's end.

    Args:
        status: with ``state``, ``error_code`` and ``error_message``, as Kubeflow gives it to the last task.
        pipeline: name of the pipeline.
        run: name of the run.
        run_id: its identifier.
    """
    text = f"{pipeline}: run {run} ended with {status.state}"
    cause = masked(status.error_message) if status.error_message else status.error_message
    if cause:
        text += f": {cause}"
    return {
        "text": text,
        "pipeline": pipeline,
        "run": run,
        "run_id": run_id,
        "state": status.state,
        "error_code": status.error_code,
        "error": cause,
    }


def announce(summary: Mapping[str, Any]) -> bool:
    """Post a summary as JSON to the address in the environment, and log it.

    Nothing is raised and the address is written nowhere: a message that cannot be sent must not
    turn a good run into a failed one.

    Args:
        summary: values that JSON knows; ``text`` is what chats show.

    Returns:
        Whether it was taken.
    """
    url = os.environ.get(WEBHOOK, "").strip()
    logger.info("%s%s", summary["text"], "" if url else " (no webhook is set)")
    if not url:
        return False
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs the address
    try:
        answer = httpx.post(url, json=dict(summary), timeout=TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # their texts may hold the address
        logger.warning("the webhook cannot be reached (%s)", type(error).__name__)
        return False
    if not answer.is_success:
        logger.warning("the webhook answered with status %d", answer.status_code)
        return False
    logger.info("posted to the webhook")
    return True
