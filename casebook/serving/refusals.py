"""Errors as clients of OpenAI's API know them, with what is wrong and what to do besides.

Examples
--------
>>> refusal = Refusal(429, "rate limit", "It may be asked twice a minute.", "Wait.", wait=7.2)
>>> error(refusal).status_code, error(refusal).headers["retry-after"]
(429, '8')
>>> told(refusal)["error"]["type"], told(refusal)["error"]["code"]
('rate_limit_error', 'rate_limit')
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Response

from casebook.serving.buckets import retry_after
from casebook.serving.strict import Problem

#: What a status is called in an error, as clients of OpenAI's API know it.
TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}

#: What a client must not repeat by itself.
ONCE = (500, 502, 504)


class Refusal(Problem):
    """A request that is refused, with the seconds after which it may be sent again."""

    def __init__(
        self, status: int, error: str, what: str, do: str, wait: float | None = None
    ) -> None:
        super().__init__(status, error, what, do)
        self.wait = wait


def told(problem: Problem) -> dict[str, Any]:
    """Return the body of an error."""
    said = problem.body
    kind = "api_error" if problem.status >= 500 else "invalid_request_error"
    error = {
        "message": f"{said['what']} {said['do']}",
        "type": TYPES.get(problem.status, kind),
        "param": None,
        "code": said["error"].replace(" ", "_"),
    }
    return {"error": error | {"what": said["what"], "do": said["do"]}}


def error(problem: Problem, request: str = "") -> Response:
    """Return an error as a response, with the number of its request if there is one.

    OpenAI's clients repeat 408, 409, 429 and all from 500 on by themselves, twice and without an
    idempotency key. ``x-should-retry: false`` tells them not to where a gateway has asked again
    already, where it would go wrong again, or where the answer is done.
    """
    headers = {"x-request-id": request} if request else {}
    if problem.status in ONCE or (problem.status == 409 and getattr(problem, "wait", 0) is None):
        headers["x-should-retry"] = "false"
    if (wait := getattr(problem, "wait", None)) is not None:
        headers["Retry-After"] = retry_after(wait)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(json.dumps(told(problem)), problem.status, headers, "application/json")
