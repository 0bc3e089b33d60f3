"""HTTP requests of the video API."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given

from ezvideo_async._domain.validation import validate_task_id
from ezvideo_async._protocol.requests import retrieve_request
from ezvideo_async.errors import InvalidTaskIdError
from tests.support import strategies
from tests.support.response_bodies import BASE_URL


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
    request = retrieve_request(BASE_URL, task_id)

    assert request.url == f"https://api.example.test/v1/videos/{segment}"
    assert (request.method, request.task_id) == ("GET", task_id)


@given(strategies.texts.filter(bool))
def test_no_valid_id_leaves_its_path_segment(task_id):
    """It reaches no other path, query or host, and the server decodes the same id."""
    try:
        validate_task_id(task_id)
    except InvalidTaskIdError:
        return

    parts = urlsplit(retrieve_request(BASE_URL, task_id).url)
    folder, _, segment = parts.path.rpartition("/")

    assert (folder, unquote(segment)) == ("/v1/videos", task_id)
    assert segment not in {"", ".", ".."}
    assert (parts.query, parts.fragment, parts.netloc) == ("", "", "api.example.test")
