"""First come, first served, whoever leaves in between."""

from __future__ import annotations

from hypothesis import given, strategies as st

from ezvideo_async._scheduling.fifo import FifoQueue


@given(
    st.lists(st.sampled_from(["come", "come", "serve", "leave", "clear"]), max_size=80), st.data()
)
def test_it_is_a_list_from_which_one_is_taken_anywhere(steps, data):
    """However coming, being served and leaving are interleaved."""
    turns, model = FifoQueue(), []
    for number, step in enumerate(steps):
        if step == "come":
            turns.append(number)
            model.append(number)
        elif step == "serve":
            limit = data.draw(st.integers(0, 3))
            assert turns.take(limit) == model[:limit]
            del model[:limit]
        elif step == "leave" and model:
            leaving = model.pop(data.draw(st.integers(0, len(model) - 1)))
            turns.remove(leaving)
        elif step == "clear":
            turns.clear()
            model.clear()
        assert (len(turns), list(turns), bool(turns)) == (len(model), model, bool(model))
        assert len(turns._line) <= 2 * len(model)


def test_those_who_left_take_no_room():
    """Also when all leave, the last ones first."""
    turns = FifoQueue()
    for number in range(1000):
        turns.append(number)

    for number in reversed(range(1000)):
        turns.remove(number)
        assert len(turns._line) <= max(1, 2 * number)

    assert not turns
