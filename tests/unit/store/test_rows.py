"""Rows of the store: checksum, redaction, and size."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import TaskStatus
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async.store.rows import COLUMNS, DamagedRowError, from_row, to_row
from tests.support.strategies import task_ids, texts

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


def body_after(value):
    """The body that is stored for a response with this JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return from_row(to_row(StoredTask(task_id="a", added_at=1.0, body=body))).body


@given(
    task_id=task_ids,
    tag=st.none() | texts,
    at=st.floats(0, 1e10),
    deadline=st.none() | st.floats(0, 1e10),
    status=st.none() | st.sampled_from(TaskStatus),
    kind=st.none() | st.just("task_completed"),
)
def test_a_row_gives_the_task_back(task_id, tag, at, deadline, status, kind):
    """Every value comes back as it was written."""
    task = StoredTask(
        task_id=task_id,
        tag=tag,
        added_at=at,
        deadline_at=deadline,
        status=status,
        changed_at=at,
        body=b'{"id": "a"}',
        base_url="https://api.example.test/v1",
        request_id="r",
        final_kind=kind,
        loss='{"reason":"deadline"}',
    )

    assert from_row(to_row(task)) == task


@pytest.mark.parametrize("column", range(len(COLUMNS) + 1))
def test_a_changed_value_is_found(column):
    """The checksum covers every column, and itself."""
    row = list(to_row(StoredTask(task_id="a", added_at=1.0)))
    row[column] = "changed"

    with pytest.raises(DamagedRowError):
        from_row(row)


@pytest.mark.fault("P7")
@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("https://h/v.mp4?Signature=secret", "https://h/v.mp4?…"),
        ("https://u:secret@h/v.mp4", "https://…@h/v.mp4"),
        ("https://h/v.mp4#secret", "https://h/v.mp4?…"),
        (
            "see https://h/a?k=secret and https://h/b?k=secret",
            "see https://h/a?… and https://h/b?…",
        ),
        ("/v1/videos/a/content?token=secret", "/v1/videos/a/content?…"),
        ("oss://b/v?k=secret", "oss://b/v?…"),
        ("v.mp4?k=secret", "v.mp4?…"),
        ('{"url":"https:\\/\\/h\\/v?k=secret"}', '{"url":"https:\\/\\/h\\/v?…"}'),
        ("data:video/mp4;base64," + "secret" * 9, "data:video/mp4;base64,secretsecr…"),
        ("why? because", "why? because"),
        ("视频 https://h/视频?k=secret", "视频 https://h/视频?…"),
    ],
)
def test_no_query_of_a_url_is_stored(text, stored):
    """At any depth, in texts and keys, however the JSON writes it."""
    body = body_after({"a": [{"b": text}], text: 1})

    assert json.loads(body) == {"a": [{"b": stored}], stored: 1}
    escaped = json.dumps({"a": text}).replace("?", "\\u003f").replace("/", "\\/").encode()
    assert b"secret=" not in body_after(escaped)
    assert json.loads(body_after(escaped)) == {"a": stored}


@given(JSON_VALUES)
def test_a_body_without_urls_is_kept(value):
    """Redaction changes nothing else."""
    kept = json.loads(body_after(value))

    text = json.dumps(value)
    assert kept == value or not {*"/?#@"}.isdisjoint(text) or "data:" in text.lower()


def test_a_body_that_is_too_long_is_not_stored():
    """More than 64 KiB after redaction; what redaction makes short is stored."""
    assert body_after({"a": "x" * (64 << 10)}) is None
    assert body_after({"a": "data:video/mp4," + "x" * (64 << 10)}) is not None
    assert body_after(b"no json ?") is None
