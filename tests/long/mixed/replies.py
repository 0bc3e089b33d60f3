"""
Replies of the mixed run's server: a task's states in several dialects, refusals, odd bytes.

A reply is a function of the task that was asked for; it returns what is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Protocol

from attrs import evolve, frozen


class Asked(Protocol):
    """What a reply needs of the task that was asked for."""

    @property
    def id(self) -> str: ...
    @property
    def dialect(self) -> str: ...
    @property
    def count(self) -> int:
        """Requests for it so far, this one included."""
        ...

    @property
    def now(self) -> float: ...


class Then(Enum):
    """What happens to the connection after a reply."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()


@frozen
class Sent:
    """
    Bytes of a reply.

    Attributes:
        data: Sent at once.
        drip: Sent later, each after its delay in seconds.
        then: What happens to the connection afterwards.
    """

    data: bytes
    drip: tuple[tuple[float, bytes], ...] = ()
    then: Then = Then.KEEP


Reply = Callable[[Asked], Sent]

HTML = "Content-Type: text/html"
TEXT = "Content-Type: text/plain"
PAGE = b"<!doctype html><html><title>maintenance</title><body>back soon</body></html>"


def http(status: int, body: Any, *headers: str) -> bytes:
    """Return one whole HTTP response; *body* is bytes or a JSON value."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if not any(header.startswith("Content-Type") for header in headers):
        headers = ("Content-Type: application/json", *headers)
    known = status in HTTPStatus.__members__.values()
    reason = HTTPStatus(status).phrase if known else "Odd"
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def fixed(status: int, body: Any, *headers: str) -> Reply:
    """Make a reply that is the same for every task."""
    sent = Sent(http(status, body, *headers))
    return lambda _asked: sent


def raw(data: bytes, then: Then = Then.CLOSE) -> Reply:
    """Make a reply of bytes that need not be HTTP."""
    return lambda _asked: Sent(data, then=then)


def url_of(task_id: str) -> str:
    """Return the only url with which a task may complete."""
    return f"https://cdn.example.test/{task_id.encode().hex()[-40:]}.mp4"


# -- states -----------------------------------------------------------------------------------

PLAIN_DIALECTS = ("api", "new_api")
NEW_DIALECTS = ("jsend", "dashscope", "enum", "object")
"""Dialects in which the state or the url stands in an unusual place."""


def body_of(asked: Asked, state: str) -> dict[str, Any]:
    """Return a state of the asked task: ``processing``, ``completed`` or ``failed``."""
    video = {"url": url_of(asked.id)} if state == "completed" else {}
    reason = {"code": "blocked", "message": "output blocked"} if state == "failed" else None
    task: dict[str, Any] = {"id": asked.id, "status": state, **video}
    if state == "processing":
        task["progress"] = min(95, asked.count)
    match asked.dialect:
        case "new_api":
            value = {"completed": "SUCCESS", "failed": "FAILURE"}.get(state, "IN_PROGRESS")
            text = {"fail_reason": "output blocked"} if reason else {}
            links = {"result_url": video["url"]} if video else {}
            return {
                "code": "success",
                "data": {"task_id": asked.id, "status": value, **text, **links},
            }
        case "jsend":
            return {"status": "success", "data": {**task, **({"error": reason} if reason else {})}}
        case "dashscope":
            value = {"completed": "SUCCEEDED", "failed": "FAILED"}.get(state, "RUNNING")
            links = {"video_url": video["url"]} if video else {}
            output = {"task_id": asked.id, "task_status": value, **links, **(reason or {})}
            return {"request_id": f"r-{asked.count}", "output": output}
        case "enum":
            value = {"completed": "SUCCESSFUL", "failed": "FAILED"}.get(state, "ACTIVE")
            return {**task, "status": f"MEDIA_GENERATION_STATUS_{value}", "error": reason}
        case "object":
            return {**task, "status": {"state": state}, "error": reason}
        case "none":  # xAI: no id in any response
            value = {"completed": "done", "failed": "failed"}.get(state, "pending")
            return {"status": value, **({"video": video} if video else {})}
        case _:
            return {**task, "error": reason} if reason else task


def running(asked: Asked) -> Sent:
    """Respond that the task is processing."""
    return Sent(http(200, body_of(asked, "processing")))


def done(asked: Asked) -> Sent:
    """Respond that the task is completed."""
    return Sent(http(200, body_of(asked, "completed")))


def failed(asked: Asked) -> Sent:
    """Respond that the task has failed."""
    return Sent(http(200, body_of(asked, "failed")))


def still(asked: Asked) -> Sent:
    """Respond with the same state every time."""
    return Sent(http(200, {"id": asked.id, "status": "processing"}))


def under(status: int, state: str) -> Reply:
    """Make a reply that is the task's own state under an error status."""
    return lambda asked: Sent(http(status, body_of(asked, state)))


def beside(fields: dict[str, Any]) -> Reply:
    """Make a reply of HTTP 200 with the task's id beside other fields."""
    return lambda asked: Sent(http(200, {"id": asked.id, **fields}))


def named(name_of: Callable[[Asked], str], state: Callable[[Asked], str]) -> Reply:
    """Make a reply that names the task in another way."""
    return lambda asked: Sent(
        http(200, {"id": name_of(asked), "status": state(asked), "url": url_of(asked.id)})
    )


def of_other(other: str, state: str) -> Reply:
    """Make a reply that is the state of another task, with that one's url."""
    fixed_body = {"id": other, "status": state, "url": url_of(other)}
    return fixed(200, fixed_body)


def of_strangers(asked: Asked) -> Sent:
    """Respond with the state of another task each time, so that none is an alias."""
    state = {"id": f"stranger-{asked.count}", "status": "processing"}
    return Sent(http(200, {"status": "success", "data": state}))


def large(mebibytes: float) -> Reply:
    """Make a reply that completes the task with a ``data:`` url of that size."""
    return lambda asked: Sent(
        http(200, {"id": asked.id, "status": "completed", "url": data_url(asked.id, mebibytes)})
    )


def data_url(task_id: str, mebibytes: float) -> str:
    """Return a video that is inlined in its url."""
    head = f"data:video/mp4;base64,{task_id.encode().hex()}"
    return head + "A" * (int(mebibytes * (1 << 20)) - len(head))


def dense(asked: Asked) -> Sent:
    """Respond with a body of many small objects, costly to parse."""
    body = {"id": asked.id, "status": "processing", "metadata": {"m": [{}] * 100_000}}
    return Sent(http(200, body))


# -- what is done to every reply --------------------------------------------------------------


def doubled(sent: Sent) -> Sent:
    """Send the reply twice at once, as a mirror in front of the server does."""
    return evolve(sent, data=sent.data + sent.data)


def doubled_later(sent: Sent) -> Sent:
    """Send the reply once more when the connection is idle."""
    return evolve(sent, drip=((0.3, sent.data),))


def dripping(sent: Sent) -> Sent:
    """Send the body byte by byte, slower than any timeout."""
    head, _, body = sent.data.partition(b"\r\n\r\n")
    bytes_of_body = tuple((4.0, body[at : at + 1]) for at in range(min(len(body), 12)))
    return Sent(head + b"\r\n\r\n", drip=bytes_of_body)


# -- refusals ---------------------------------------------------------------------------------


def refusal(status: int, code: str = "refused", message: str = "not for this task") -> Reply:
    """Make an error in the API's own shape."""
    return fixed(status, {"error": {"code": code, "message": message, "type": "invalid_request"}})


NOT_FOUND = {
    "404 code": refusal(404, "task_not_found", "task not found"),
    "404 message": fixed(404, {"detail": "Video not found"}),
    "400 new-api": fixed(400, {"code": "task_not_exist", "message": "task_not_exist"}),
    "200 code 404": fixed(200, {"error": {"message": "Video not found", "code": 404}}),
}
AMBIGUOUS = {
    "detail": fixed(404, {"detail": "Not Found"}),
    "error.message": fixed(404, {"error": {"message": "Not Found"}}),
    "message": fixed(404, {"message": "Not Found"}),
    "empty": fixed(404, b""),
    "text": fixed(404, b"default backend - 404", TEXT),
}
REDIRECT = fixed(307, b"", "Location: http://login.example.test/")
WRONG_ROUTE = {
    "404 Invalid URL": refusal(404, "", "Invalid URL (GET /videos)"),
    "404 page": fixed(404, PAGE, HTML),
    "404 of Go": fixed(404, b"404 page not found", TEXT),
}
REFUSALS = {
    **{
        str(status): refusal(status)
        for status in (400, 401, 403, 405, 406, 411, 413, 414, 415, 417, 422, 431, 501)
    },
    "redirect": REDIRECT,
    **WRONG_ROUTE,
}
"""What Q5 names: about one id while others are answered."""

FIREWALL = {
    "400 empty": fixed(400, b""),
    "400 text": fixed(400, b"Bad Request", TEXT),
    "403 text": fixed(403, b"error code: 1010", TEXT),
    "403 page": fixed(403, PAGE, HTML),
}
MAINTENANCE = fixed(200, PAGE, HTML)

NO_TASK = {
    "ThinkPHP page": fixed(200, {"code": 0, "msg": "log in", "data": "", "url": "/login.html"}),
    "error beside a url": fixed(
        200, {"error": {"code": "overloaded", "message": "slow"}, "url": "https://gw.test/limits"}
    ),
    "success false": fixed(200, {"success": False, "message": "busy", "data": "/login"}),
    "code beside a url": fixed(200, {"code": 500, "data": {"url": "https://gw.test/status"}}),
    "the call's error": fixed(200, {"status": "error", "message": "try later"}),
    "JSend, another task": of_strangers,
    "list of another task": fixed(
        200,
        {
            "object": "list",
            "data": [{"id": "x", "status": "completed", "url": "https://cdn.test/x.mp4"}],
        },
    ),
    "list of two": fixed(
        200, {"data": [{"url": "https://cdn.test/1.mp4"}, {"url": "https://cdn.test/2.mp4"}]}
    ),
    "MiniMax": fixed(
        200, {"task_id": "", "base_resp": {"status_code": 1000, "status_msg": "unknown error"}}
    ),
    "empty object": fixed(200, {}),
    "relative url": fixed(200, {"url": "/login"}),
}

ODD = {
    "204": fixed(204, b""),
    "205": fixed(205, b""),
    "304": fixed(304, b""),
    "600": fixed(600, {"id": "x"}),
    "999": fixed(999, b""),
    "101": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x81\x05hello"),
    "not HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "cut": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"id": "'),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "long header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n{}"),
    "deep": fixed(200, b"[" * 9_000 + b"]" * 9_000),  # twice as many are too_large
    "array": fixed(200, []),
    "text": fixed(200, "done"),
    "null": fixed(200, None),
    "not UTF-8": fixed(200, b'{"id": "\xff\xfe", "status": "completed"}'),
    "empty": fixed(200, b""),
    "cut JSON": fixed(200, b'{"id": "a", "status": "completed", "url": "https://cdn.test/'),
}
"""Failed polls, whatever the row: Q18."""
