"""JSON as it is written: files to the byte as Python indents them, reports with short lists on one line."""

import json
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.strict_json import json_bytes, json_pieces

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_chunks_join_to_the_json_of_the_value(value: Any) -> None:
    assert json.loads("".join(json_pieces(value))) == value


@given(VALUES)
def test_files_are_written_as_python_indents_json(value: Any) -> None:
    assert json_bytes(value) == (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


@given(st.lists(VALUES, max_size=4))
def test_iterator_is_written_as_a_list_with_one_item_per_line(items: list[Any]) -> None:
    text = "".join(json_pieces({"items": iter(items)}))
    assert json.loads(text) == {"items": items}
    assert len(text.splitlines()) == (4 + len(items) if items else 3)


def test_list_of_scalars_is_written_on_one_line() -> None:
    value = {"layers": [0, 1], "none": [], "rows": [[0, "a"], [1, None]], "fields": {"depth": 2}, "empty": {}}
    assert "".join(json_pieces(value)) == (
        "{\n"
        '  "layers": [0, 1],\n'
        '  "none": [],\n'
        '  "rows": [\n'
        '    [0, "a"],\n'
        "    [1, null]\n"
        "  ],\n"
        '  "fields": {\n'
        '    "depth": 2\n'
        "  },\n"
        '  "empty": {}\n'
        "}"
    )


def test_iterator_is_read_item_by_item() -> None:
    items: Iterator[int] = count()
    assert "".join(islice(json_pieces(items), 4)) == "[\n  0,\n  1"
    assert next(items) == 2
