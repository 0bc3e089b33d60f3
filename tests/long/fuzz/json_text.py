"""
JSON texts that look like answers of real servers, and are wrong somewhere at any level.

Objects are kept as pairs, so that a key can stand twice, and numbers as they are written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ezvideo_async._protocol import dialects

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

ASKED = "vid_x"
ALIAS = "upstream-7"
CANARY = "s3cr3t-0f-a-signed-url"
SIGNED = f"https://cdn.example.test/v.mp4?sig={CANARY}&e=1#t"

_SAMPLES = Path(__file__).parents[2] / "samples" / "cases.jsonl"
CASES = [json.loads(line) for line in _SAMPLES.read_text("utf-8").splitlines()]


class Pairs(list[Any]):
    """An object, as a list of [key, value]."""


class Raw(str):
    """A piece of JSON text, as it stands."""

    __slots__ = ()


def tree(value: Any) -> Any:
    """Make objects into pairs."""
    if isinstance(value, dict):
        return Pairs([key, tree(inner)] for key, inner in value.items())
    return [tree(inner) for inner in value] if isinstance(value, list) else value


def text_of(value: Any, rand: Random) -> str:
    """Write a tree as JSON; how it is escaped is left to chance."""
    as_ascii = rand.random() < 0.5
    comma, colon = (", ", ": ") if rand.random() < 0.5 else (",", ":")

    def written(value: Any) -> str:
        if isinstance(value, Raw):
            return value
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=as_ascii or not _is_utf_8(value))
        if isinstance(value, Pairs):
            inner = [f"{written(key)}{colon}{written(inner)}" for key, inner in value]
            return "{" + comma.join(inner) + "}"
        if isinstance(value, list):
            return "[" + comma.join(map(written, value)) + "]"
        return json.dumps(value)

    return written(value)


def _is_utf_8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# -- leaves -----------------------------------------------------------------------------------

NUMBERS = [
    Raw(text)
    for text in (
        *("0", "-0", "1", "-1", "7", "45", "100", "101", "-5", "250", "200", "401", "429"),
        *("0.0", "-0.0", "0.004", "0.5", "1.0", "1.5", "45.9", "99.5", "1e2", "4.5E+1", "5e-324"),
        *("1e308", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity"),
        *("1767225600", "1767225600.75", "1767225600922", "1767225600922000000", "253402300800"),
        *("99999999999", "100000000000", "1e11", "1e300", "9007199254740993", "-62135596800"),
        *("18446744073709551616", "1" + "0" * 30, "9" * 308, "9" * 310),
    )
]
NO_NUMBERS = [
    *map(Raw, ("007", "+1", ".5", "1.", "0x10", "1_000", "--1", "1e", "\u0663", "1,5", "-")),
    *map(Raw, ("9" * 4299, "9" * 5000, "nan", "undefined", "'x'", "True", "")),
]
TEXTS = [
    *("", " ", "null", "None", "true", "NaN", "0", "-1", "45", "45%", "30 %", "0.5", ".5%", "5.%"),
    *(" 4_5 ", "\u0663", "1e3", "9" * 40, "10.0", "8", "3.4", "eight", "1280x720", "1920*1080"),
    *("720\u00d71280", "720P", "1x1x1", "999999999x1", "success", "ok", "SUCCESS", "0001-01-01"),
    *("2026-01-01T00:00:00Z", "2026-01-01", "2026-W01-1", "20260101T000000.123456+0545"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"),
    *("\ud800", "a\udfff", "\x00", "\x1b]8;;http://x\x07", "\u202egpj\u2069", "\ufeff", "\u200b"),
    *(
        "a\r\nb",
        "\u2028",
        "\U0010ffff",
        "e\u0301",
        "视频生成失败",
        "x" * 300,
        "{}",
        "[",
        '{"url":""}',
    ),
    *('{"url": "https://h.test/m.mp4"}', '{"a": {"b": [1]}}', '{"a":1,"a":2}', "message", ASKED),
]
WORDS = [
    *dialects.STATUS_VALUES,
    *("COMPLETED", " Failed ", "IN PROGRESS", "in-progress", "NOT_START", "Time  Out", "brewing"),
    *("completed\x00", "c\u043empleted", "moderated", "\ufeffcompleted", "FA\u0131LED"),
]
URLS = [
    *("https://cdn.example.test/v.mp4", SIGNED, "/v1/videos/vid_x/content", "http://[::1]/v"),
    *("HTTPS://h.test", "http://h.test:99999/", "https://u:p@h.test/v", "https://h.test/a b"),
    *("https://", "https:///v", "http://[::1", "http://[v1.x]/", "https://h.test/\u202e", "//h/v"),
    *("data:video/mp4;base64,AAAA", "data:text/html,x", "javascript:alert(1)", "file:///etc/x"),
    *(
        "https://\ud800/",
        "/\\evil",
        "/a\tb",
        " https://h.test/v \n",
        "ftp://h/v",
        "https://h\u2100",
    ),
    *("https://h.test:/v", "https://h.test:-1/", "https://\u2488com/", "HTTP://H\x00/", "/"),
    "https://h.test/" + "x" * 3000,
]
CODES = [
    *dialects.NOT_FOUND_CODES,
    *dialects.AUTHENTICATION_CODES,
    *dialects.RATE_LIMIT_CODES,
    *dialects.QUOTA_CODES,
    *("success", "0", "", "200", "ok", "TASK_NOT_EXIST", "content_policy_violation"),
]
IDS = [ASKED] * 30 + [ALIAS, "vid_y", "VID_X", "", " ", "\ud800"]

FIELDS = sorted(
    {
        *dialects.STATUS_FIELDS,
        *dialects.ID_FIELDS,
        dialects.TRACE_ID_FIELD,
        *dialects.CREATED_AT_FIELDS,
        *dialects.COMPLETED_AT_FIELDS,
        *dialects.EXPIRES_AT_FIELDS,
        *(name for place in dialects.SECONDS_PLACES for name in place),
        *(name for place in dialects.URL_PLACES for name in place),
        *dialects.URL_FIELDS_WHEN_COMPLETED,
        *dialects.FAILURE_REASON_FIELDS,
        *dialects.ERROR_MESSAGE_FIELDS,
        *("error", "code", "type", "loc", "progress", "model", "size", "metadata", "object"),
    }
)


def any_text(rand: Random) -> str:
    """A text of any planes."""
    planes = (0x80, 0x250, 0x3000, 0xE000, 0x11000, 0x110000)
    return "".join(chr(rand.randrange(rand.choice(planes))) for _ in range(rand.randrange(9)))


def _any_object(rand: Random, depth: int) -> Any:
    size = rand.randrange(4)
    return Pairs([rand.choice(FIELDS), any_value(rand, depth)] for _ in range(size))


def _any_list(rand: Random, depth: int) -> Any:
    return [any_value(rand, depth) for _ in range(rand.randrange(3))]


def _nest(rand: Random) -> Raw:
    depth = rand.choice((2, 20, 90, 110, 200, 480, 900, 970, 2_000, 12_000))
    opening, closing = rand.choice(
        (("[", "]"), ('{"url":', "}"), ('{"data":', "}"), ('[{"a":', "}]"))
    )
    return Raw(opening * depth + rand.choice(("1", '"x"', "[]")) + closing * depth)


_LEAVES: list[Callable[[Random], Any]] = [
    lambda rand: rand.choice(NUMBERS),
    lambda rand: rand.choice(NUMBERS),
    lambda rand: rand.choice(TEXTS),
    lambda rand: rand.choice(TEXTS),
    lambda rand: rand.choice(WORDS),
    lambda rand: rand.choice(URLS),
    lambda rand: rand.choice(CODES),
    lambda rand: rand.choice((None, True, False)),
    any_text,
]


def any_value(rand: Random, depth: int = 0) -> Any:
    """A value of any type; nested ones hold fields of tasks again."""
    kind = rand.random()
    if kind < 0.7 or depth > 3:
        return rand.choice(_LEAVES)(rand)
    if kind < 0.99:
        return (_any_object if kind < 0.87 else _any_list)(rand, depth + 1)
    return _nest(rand) if kind < 0.995 else rand.choice(NO_NUMBERS)


# -- tasks, errors and their wrappers -----------------------------------------------------------


def _places(rand: Random) -> list[Any]:
    """A url in one of its places, the way there built."""
    *way, last = rand.choice(dialects.URL_PLACES)
    value: Any = rand.choice(URLS)
    if rand.random() < 0.2:
        value = rand.choice(([value], Pairs([["url", value]]), [Pairs([["url", [value]]])], []))
    for name in (last, *reversed(way)):
        value = Pairs([[name, value]])
        if rand.random() < 0.1:
            value = [value]
    return list(value) if isinstance(value, Pairs) else [["output", value]]


def _error(rand: Random) -> list[Any]:
    code, message = rand.choice(CODES), rand.choice((*TEXTS, SIGNED, f"see {SIGNED} now"))
    kind = rand.randrange(5)
    if kind == 0:
        return [["error", rand.choice((message, None, [], [message]))], ["code", code]]
    if kind == 1:
        return [["code", code], [rand.choice(("message", "msg")), message], ["data", None]]
    if kind == 2:
        place = [rand.choice(FIELDS), rand.choice(NUMBERS)]
        fault = Pairs([["loc", place], ["msg", message], ["type", "missing"]])
        return [["detail", rand.choice((message, [fault], [fault, fault, 1]))]]
    told = [["message", message], ["type", "invalid_request_error"], ["code", code]]
    return [["error", Pairs(rand.sample(told, rand.randrange(4)))]]


def task_like(rand: Random) -> Pairs:
    """An answer with the fields of a task, most of them sound."""
    found: list[Any] = []
    if rand.random() < 0.9:
        found.append([rand.choice(dialects.STATUS_FIELDS), rand.choice(WORDS)])
    if rand.random() < 0.9:
        found.append(
            [rand.choice((*dialects.ID_FIELDS, "id", "id", "request_id")), rand.choice(IDS)]
        )
    for names, values in (
        (("progress",), (*NUMBERS, "45%", "0.5", 30)),
        (dialects.CREATED_AT_FIELDS, (1767225600, 1767225600922, *NUMBERS, *TEXTS)),
        (dialects.COMPLETED_AT_FIELDS, (1767225600, "2026-01-01T00:00:00Z", *NUMBERS)),
        (dialects.EXPIRES_AT_FIELDS, (1767312000, *NUMBERS)),
        (("seconds", "duration"), ("10.0", "8", 3.4, *NUMBERS, *TEXTS)),
        (("size",), ("1280x720", "1920*1080", *TEXTS)),
        (("model",), ("sora-2", "", *TEXTS)),
        (dialects.FAILURE_REASON_FIELDS, (*TEXTS, *URLS)),
    ):
        if rand.random() < 0.4:
            found.append([rand.choice(names), rand.choice(values)])
    if rand.random() < 0.4:
        found += _places(rand)
    if rand.random() < 0.25:
        found += _error(rand)
    if rand.random() < 0.3:
        found.append(["metadata", rand.choice((_any_object, _any_list))(rand, 1)])
    if rand.random() < 0.3:
        found.append([rand.choice(FIELDS), any_value(rand)])
    rand.shuffle(found)
    return Pairs(found if rand.random() < 0.03 else _once(found))


def _once(pairs: list[Any]) -> list[Any]:
    """Keep the first pair of each key: doubled ones are an error of their own."""
    return list({pair[0]: pair for pair in reversed(pairs)}.values())


def _wrapped(rand: Random, value: Any) -> Any:
    while rand.random() < 0.2:
        beside = [["code", rand.choice(CODES)], ["message", ""], ["request_id", "trace"]]
        around = [
            [rand.choice(dialects.ENVELOPE_FIELDS), value],
            *rand.sample(beside, rand.randrange(3)),
        ]
        value = Pairs(around) if rand.random() < 0.9 else [value]
    return value


def answer_tree(rand: Random) -> Any:
    """A task, an error or a recorded answer, wrapped, and broken in some places or in none."""
    kind = rand.random()
    if kind < 0.6:
        value = _wrapped(rand, task_like(rand))
    elif kind < 0.75:
        value = _wrapped(rand, Pairs(_once(_error(rand))))
    elif kind < 0.97:
        value = tree(rand.choice(CASES)["body"])
    else:
        value = any_value(rand)
    for _ in range(rand.choice((0, 0, 0, 1, 1, 2, 4))):
        _break_one(rand, value)
    return value


def _containers(value: Any) -> list[Any]:
    found = [value] if isinstance(value, list) else []
    for inner in found:  # grows on the way
        values = [pair[1] for pair in inner] if isinstance(inner, Pairs) else inner
        found += [each for each in values if isinstance(each, list) and each]
    return found


def _break_one(rand: Random, value: Any) -> None:
    """Change one place of a tree: its type, its key, or whether it is there, once or twice."""
    holders = _containers(value)
    if not holders or not (holder := rand.choice(holders)):
        return
    at = rand.randrange(len(holder))
    kind = rand.randrange(20)
    if kind < 4:
        del holder[at]
    elif kind == 4:
        holder.insert(rand.randrange(len(holder) + 1), holder[at])
    elif not isinstance(holder, Pairs):
        holder[at] = any_value(rand)
    elif kind < 9:
        holder[at] = [rand.choice(FIELDS), holder[at][1]]
    elif kind < 13 and isinstance(holder[at][1], str):
        text = holder[at][1]
        holder[at] = [holder[at][0], text[: rand.randrange(len(text) + 1)]]
    else:
        holder[at] = [holder[at][0], any_value(rand)]
