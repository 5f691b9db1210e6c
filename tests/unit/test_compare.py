"""Comparison of byte streams: what counts is the bytes, not how they are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from solar_upscale.verify.compare import first_difference, same_bytes
from tests.support.fuzz import fuzzed

chunkings = st.lists(st.binary(max_size=3), max_size=8)


@fuzzed(300)
@given(left=chunkings, right=chunkings)
def test_chunks_do_not_matter(left, right):
    assert same_bytes(left, right) == (b"".join(left) == b"".join(right))


@fuzzed(300)
@given(data=st.binary(max_size=12), cuts=st.lists(st.integers(0, 12)), other_cuts=st.lists(st.integers(0, 12)))
def test_equal_bytes_are_equal_however_they_are_cut(data, cuts, other_cuts):
    compared = []
    assert first_difference(chunked(data, cuts), chunked(data, other_cuts), compared.append) is None
    assert sum(compared) == len(data)


@fuzzed(300)
@given(data=st.binary(min_size=1, max_size=12), cuts=st.lists(st.integers(0, 12)), place=st.data())
def test_offset_of_a_changed_byte_is_found(data, cuts, place):
    index = place.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[index] ^= 1
    assert first_difference(chunked(data, cuts), [bytes(changed)], lambda nbytes: None) == index


def chunked(data, cuts):
    """The bytes, cut at ``cuts``; a cut that appears twice gives an empty chunk."""
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(bounds)]
