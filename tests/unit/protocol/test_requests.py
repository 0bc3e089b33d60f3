"""HTTP requests of the video API."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given

from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async._protocol.requests import StatusRoute, retrieve_request
from ezvideo_async.errors import InvalidTaskIdError
from tests.support import strategies
from tests.support.response_bodies import BASE_URL

ROUTE = StatusRoute(BASE_URL)


@pytest.mark.parametrize(
    ("task_id", "segment"),
    [
        ("vid_1", "vid_1"),
        ("sora-2:task_1", "sora-2%3Atask_1"),
        ("video_bGl0=", "video_bGl0%3D"),
        ("a/../b?c#d%e", "a%2F..%2Fb%3Fc%23d%25e"),
        ("...", "..."),
        (" x ", "%20x%20"),
        ("任务", "%E4%BB%BB%E5%8A%A1"),
        ("a\\b", "a%5Cb"),
    ],
)
def test_id_is_one_path_segment(task_id, segment):
    """It is percent-encoded with nothing safe, and otherwise unchanged."""
    request = retrieve_request(ROUTE, task_id)

    assert request.url == f"https://api.example.test/v1/videos/{segment}"
    assert (request.method, request.task_id) == ("GET", task_id)


@given(strategies.texts.filter(bool))
def test_no_valid_id_leaves_its_path_segment(task_id):
    """It reaches no other path, query or host, and the server decodes the same id."""
    try:
        validate_task_id(task_id)
    except InvalidTaskIdError:
        return

    parts = urlsplit(retrieve_request(ROUTE, task_id).url)
    folder, _, segment = parts.path.rpartition("/")

    assert (folder, unquote(segment)) == ("/v1/videos", task_id)
    assert segment not in {"", ".", ".."}
    assert (parts.query, parts.fragment, parts.netloc) == ("", "", "api.example.test")


@pytest.mark.parametrize(
    ("path", "query", "url"),
    [
        ("/video/generations/{task_id}", None, "/video/generations/a%2Fb"),
        (
            "/videos/{task_id}",
            {"api-version": "2025-04-01"},
            "/videos/a%2Fb?api-version=2025-04-01",
        ),
        ("/v/{task_id}/x", {"a b": "&=?/é", "c": ""}, "/v/a%2Fb/x?a%20b=%26%3D%3F%2F%C3%A9&c="),
    ],
)
def test_route_and_query_of_the_caller(path, query, url):
    """The id stands where the path has its place; the query is percent-encoded."""
    route = StatusRoute(BASE_URL, path=path, query=query, max_bytes=5)
    request = retrieve_request(route, "a/b")

    assert request.url == f"https://api.example.test/v1{url}"
    assert request.max_bytes == 5
