"""Validation of arguments: task ids, tasks, base urls, headers, numbers."""

from __future__ import annotations

import re
from math import inf, nan

import pytest

from ezvideo_async._domain.policies import PollPolicy, RetryPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._domain.validation import (
    UNSET,
    task_id_of,
    validate_base_url,
    validate_bytes,
    validate_encrypted,
    validate_headers,
    validate_instance,
    validate_query,
    validate_seconds,
    validate_status_path,
    validate_task,
    validate_task_id,
    validate_tasks,
    validate_timeout,
)
from ezvideo_async.errors import ConfigError, InvalidTaskIdError

TASK = VideoTask(id="vid_1", status=TaskStatus.PENDING)

# -- tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_id", ["x" * 2048, "a b", " x ", "\u202ea", "é", "…", "a.", "...", "-", "a/../b?c#d%e"]
)
def test_valid_id_is_unchanged(task_id):
    """Ids are opaque: nothing is trimmed, folded or normalized."""
    assert validate_task_id(task_id) is task_id


@pytest.mark.parametrize(
    ("task_id", "problem"),
    [
        ("", "is empty or blank"),
        ("  ", "is empty or blank"),
        ("\u00a0\u3000", "is empty or blank"),
        (".", "would change the path"),
        ("..", "would change the path"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85b", "control characters"),
        ("a\ud800", "lone surrogates"),
        ("x" * 2049, "has 2049 characters"),
        ("x" * 10_000_000, "has 10000000 characters"),
        (None, "a VideoTask, got NoneType"),
        (b"vid", "a VideoTask, got bytes"),
        (5, "a VideoTask, got int"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_invalid_id_is_refused(task_id, problem):
    """The message says what is wrong, and is short and printable."""
    with pytest.raises(InvalidTaskIdError, match=re.escape(problem)) as refused:
        validate_task_id(task_id)

    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


def test_task_stands_for_its_id():
    """A ``VideoTask`` is accepted wherever an id is, and its id is validated too."""
    assert task_id_of(TASK) == task_id_of("vid_1") == "vid_1"
    with pytest.raises(InvalidTaskIdError, match="path of the url"):
        task_id_of(VideoTask(id="..", status=TaskStatus.PENDING))


@pytest.mark.parametrize(
    ("tasks", "tags"),
    [
        ((), {}),
        (["b", TASK, "b"], {"b": "tag", "vid_1": "tag"}),
        (iter("ba"), {"b": "tag", "a": "tag"}),
        ({"b": 7, TASK: None}, {"b": 7, "vid_1": None}),
    ],
)
def test_every_task_has_a_tag(tasks, tags):
    """A mapping has its own tags; the ids of an iterable have the same one."""
    assert list(validate_tasks(tasks, tag="tag").items()) == list(tags.items())


@pytest.mark.fault("C4")
@pytest.mark.parametrize("tasks", ["vid_1", b"vid_1", TASK], ids=type)
def test_single_task_in_place_of_several_is_refused(tasks):
    """A text is iterable, but its characters are not ids."""
    with pytest.raises(InvalidTaskIdError, match="put it in a list"):
        validate_tasks(tasks)


def test_applied_task_needs_a_task_status():
    """A status that is a plain text would not compare as a ``TaskStatus`` everywhere."""
    validate_task(TASK)
    with pytest.raises(TypeError, match=r"got dict; VideoTask\.from_dict"):
        validate_task({"id": "vid_1"})
    with pytest.raises(TypeError, match="must be a TaskStatus, got str"):
        validate_task(VideoTask(id="vid_1", status="pending"))


# -- configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "base_url"),
    [
        ("https://www.ezmodel.cloud/v1", "https://www.ezmodel.cloud/v1"),
        ("https://www.ezmodel.cloud/v1/", "https://www.ezmodel.cloud/v1"),
        (" https://h.test/v1// ", "https://h.test/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("https://h.test/a/b/v1", "https://h.test/a/b/v1"),
    ],
)
def test_base_url_loses_blanks_and_trailing_slashes(value, base_url):
    """Both spellings mean the same."""
    assert validate_base_url(value) == base_url


@pytest.mark.parametrize(
    ("base_url", "problem"),
    [
        (None, "is empty"),
        (5, "is empty"),
        ("", "is empty"),
        (" ", "is empty"),
        ("h.test/v1", "does not begin with"),
        ("ftp://h.test/v1", "does not begin with"),
        ("file:///v1", "does not begin with"),
        ("https://", "does not begin with"),
        ("https://:80/v1", "does not begin with"),
        ("https://h.test:0/v1", "does not begin with"),
        ("https://h.test:99999/v1", "invalid host or port"),
        ("https://h.test:port/v1", "invalid host or port"),
        ("https://[::1/v1", "invalid host or port"),
        ("http://256.1.1.1/v1", "invalid host or port"),
        ("http://2130706433/v1", "invalid host or port"),
        ("http://127.0.0.1./v1", "invalid host or port"),
        ("http://api..host/v1", "invalid host or port"),
        (f"http://{'a' * 64}.host/v1", "invalid host or port"),
        ("http://./v1", "invalid host or port"),
        ("https://user:pw@h.test/v1", "user or password"),
        ("https://@h.test/v1", "user or password"),
        ("https://h.test/v1?key=x", "query or fragment"),
        ("https://h.test/v1#top", "query or fragment"),
        ("https://h.test/v1?", "query or fragment"),
        ("https://h.test/v1#", "query or fragment"),
        ("https://h.test/a/../v1", ". or .. in its path"),
        ("https://h.test/./v1", ". or .. in its path"),
        ("https://h.test/a b", "not allowed in a url"),
        ("https://h.test/a\nb", "not allowed in a url"),
        ("https://h.test\\v1", "not allowed in a url"),
        ("https://hé.test/v1", "not allowed in a url"),
    ],
    ids=ascii,
)
def test_invalid_base_url_is_refused(base_url, problem):
    """The message names the argument and shows a valid one, but not what was passed."""
    with pytest.raises(ConfigError, match=re.escape(problem)) as refused:
        validate_base_url(base_url)

    assert str(refused.value).startswith("base_url ")
    assert "https://www.ezmodel.cloud/v1" in str(refused.value)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("base_url", "proxy_host"),
    [
        ("https://api.example.test/v1", None),
        ("https://api.example.test/v1", "proxy.example.test"),
        ("http://127.0.0.1:8080/v1", None),
        ("http://127.9.9.9/v1", None),
        ("http://localhost/v1", "127.0.0.1"),
        ("http://[::1]:8080/v1", None),
    ],
)
def test_encrypted_or_local_url_is_accepted(base_url, proxy_host):
    """Nobody else can read the API key."""
    validate_encrypted(base_url, proxy_host=proxy_host)


@pytest.mark.fault("X7")
@pytest.mark.parametrize(
    ("base_url", "proxy_host"),
    [
        ("http://api.example.test/v1", None),
        ("HTTP://10.0.0.5:3000/v1", None),
        ("http://127.0.0.1.example.test/v1", None),
        ("http://127.0.0.1:8080/v1", "proxy.example.test"),
    ],
)
def test_plain_http_to_another_machine_is_refused(base_url, proxy_host):
    """The message names the option that allows it."""
    with pytest.raises(ConfigError, match=r"^base_url is plain http: .* allow_insecure=True "):
        validate_encrypted(base_url, proxy_host=proxy_host)


@pytest.mark.parametrize(
    "path",
    ["/videos/{task_id}", "/video/generations/{task_id}", "/v/{task_id}.json", "/%20{task_id}"],
)
def test_valid_status_path_is_unchanged(path):
    """The id may stand anywhere in it."""
    assert validate_status_path(path) is path


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (None, "must begin with / and contain {task_id} once"),
        ("", "must begin with /"),
        ("videos/{task_id}", "must begin with /"),
        ("/videos", "must begin with / and contain {task_id} once"),
        ("/{task_id}/{task_id}", "must begin with / and contain {task_id} once"),
        ("/videos/{task_id}?a=b", "not allowed in the path"),
        ("/videos/{task_id}#a", "not allowed in the path"),
        ("/videos/{id}/{task_id}", "not allowed in the path"),
        ("/a b/{task_id}", "not allowed in the path"),
        ("/%2/{task_id}", "not allowed in the path"),
        ("/../{task_id}", "an empty segment, . or .."),
        ("//{task_id}", "an empty segment, . or .."),
    ],
)
def test_invalid_status_path_is_refused(path, problem):
    """The message shows a valid one."""
    with pytest.raises(ConfigError, match=re.escape(problem)) as refused:
        validate_status_path(path)

    assert str(refused.value).endswith("pass one like /videos/{task_id}")


def test_query_is_copied():
    """Later changes of the caller's mapping have no effect."""
    query = {"api-version": "é &=#"}

    assert validate_query(query) == query
    assert validate_query(query) is not query


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("a=b", "query must be a mapping from names to texts, got str"),
        ([("a", "b")], "query must be a mapping from names to texts, got list"),
        ({"a": 1}, "every name and value must be a text"),
        ({1: "a"}, "every name and value must be a text"),
        ({"": "a"}, "no name empty"),
        ({"a": "\n"}, "query: 'a' or its value has control or surrogate characters"),
        ({"\ud800": "a"}, "has control or surrogate characters"),
    ],
)
def test_invalid_query_is_refused(query, problem):
    """It maps texts to texts; a value, which may be a key, is not shown."""
    with pytest.raises(ConfigError, match=problem):
        validate_query(query)


@pytest.mark.parametrize(("value", "got"), [(0, "0"), (-1, "-1"), (True, "bool"), (1.5, "1.5")])
def test_bytes_are_a_positive_whole_number(value, got):
    """A boolean or a fraction is refused too."""
    assert validate_bytes("max_response_bytes", 1) == 1
    with pytest.raises(ConfigError, match=f"^max_response_bytes must be .* 1 or more, got {got}"):
        validate_bytes("max_response_bytes", value)


@pytest.mark.parametrize(
    ("value", "got"), [([("X-A", "a")], "list"), ("X-A: a", "str"), (5, "int")]
)
def test_headers_are_a_mapping(value, got):
    """A list of pairs is refused."""
    with pytest.raises(ConfigError, match=f"^headers must be a mapping .* got {got}$"):
        validate_headers(value)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("X-A\r\nX-B", "x", "is not a header name"),
        ("", "x", "is not a header name"),
        (5, "x", "is not a header name"),
        ("Authorization", "x", "pass the API key as api_key"),
        ("X-A", "x\r\nX-B: y", "must be printable ASCII"),
        ("X-A", "x\n", "must be printable ASCII"),
        ("X-A", "\x00", "must be printable ASCII"),
        ("X-A", "é", "must be printable ASCII"),
        ("X-A", 5, "must be printable ASCII"),
    ],
)
def test_invalid_header_is_refused(name, value, problem):
    """Also one that the client sets itself."""
    with pytest.raises(ConfigError, match=problem):
        validate_headers({name: value})


def test_headers_are_copied():
    """Later changes of the caller's mapping have no effect."""
    headers = {"X-A": "a\tb"}

    assert validate_headers(headers) == headers
    assert validate_headers(headers) is not headers


@pytest.mark.parametrize(
    ("value", "got"), [(5, "int"), (PollPolicy(), "PollPolicy"), (RetryPolicy, "the class Retry")]
)
def test_argument_of_another_class_is_refused(value, got):
    """The message names the argument, the expected class and what was passed."""
    with pytest.raises(ConfigError, match=f"^retry must be a RetryPolicy, got {got}"):
        validate_instance("retry", value, RetryPolicy)
    assert validate_instance("retry", RetryPolicy(), RetryPolicy) == RetryPolicy()
    assert validate_instance("retry", None, RetryPolicy) is None


def test_unset_shows_its_name():
    """It is the default in signatures that ``help()`` shows."""
    assert repr(UNSET) == "UNSET"


# -- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (nan, "nan"),
        (inf, "inf"),
        (-1, "-1"),
        ("sk-key", "str"),
        (True, "bool"),
        (None, "NoneType"),
        (5j, "complex"),
        (1e9, "1000000000.0"),
        (10**400, "int"),
        (10**5000, "int"),
    ],
    ids=["nan", "inf", "-1", "text", "bool", "None", "5j", "1e9", "10**400", "10**5000"],
)
def test_invalid_seconds_are_refused(value, got):
    """The message shows numbers but no texts: one of them could be an API key."""
    for validate in (validate_timeout, lambda name, value: validate_seconds(name, value, low=0.0)):
        if value is None and validate is validate_timeout:
            continue
        with pytest.raises(ConfigError, match=rf"^interval must be .*, got {re.escape(got)}$"):
            validate("interval", value)


def test_seconds_are_floats_within_bounds():
    """The bounds are valid themselves; a year is the longest time."""
    assert validate_seconds("x", 5, low=5, high=5) == 5.0
    assert type(validate_seconds("x", 5, low=0)) is float
    assert validate_seconds("x", 31_536_000, low=0) == 31_536_000.0


def test_timeout_is_more_than_zero_or_none():
    """None means no limit."""
    assert validate_timeout("x", None) is None
    assert validate_timeout("x", 3) == 3.0
    with pytest.raises(ConfigError, match="more than 0 seconds; None means no limit"):
        validate_timeout("x", 0)
