import builtins
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from solar_upscale.errors import PatternError
from solar_upscale.pattern import LayerPattern, parse_layers, repeat_every, resolve_entries, resolve_layer_indices
from tests.support.fuzz import fuzzed

SOLAR = [*range(24), *range(8, 32)]


def refusal(layers, num_layers=32, where="--layers"):
    with pytest.raises(PatternError) as caught:
        parse_layers(layers, num_layers, where=where)
    message = str(caught.value)
    assert message.isprintable(), "a message is one printable line"
    assert len(message) < 1000
    return message


def assert_resolved_or_refused(layers):
    started = time.process_time()
    try:
        found = resolve_layer_indices(layers, 32)
    except PatternError:
        assert time.process_time() - started < 1.0
        refusal(layers)
    else:
        assert time.process_time() - started < 1.0
        assert found
        assert all(type(layer) is int and 0 <= layer < 32 for layer in found)


def fusion_bench(layer_indices):
    """What FusionBench's documentation says of ``layer_indices``: integers as they are, texts evaluated by Python."""
    layers = []
    for entry in layer_indices:
        layers.extend(list(eval(entry)) if isinstance(entry, str) else [entry])  # noqa: S307 - the oracle
    return layers


FUSION_BENCH = [
    ([0, 1, 1, 0], [0, 1, 1, 0]),
    ([0, 1, 2, 1, 3], [0, 1, 2, 1, 3]),
    (["range(0,24)", "range(8,32)"], SOLAR),
    (["range(0,12)", "range(6,12)"], [*range(12), *range(6, 12)]),
    ([0, 2, 4, "range(6,12)"], [0, 2, 4, 6, 7, 8, 9, 10, 11]),
    (["[i for i in range(4) for _ in range(2)]"], [0, 0, 1, 1, 2, 2, 3, 3]),
    (["[i for i in range(8) if i % 2 == 0]"], [0, 2, 4, 6]),
    (["[*range(4), *range(2)]"], [0, 1, 2, 3, 0, 1]),
    (["list(range(4)) + [3]"], [0, 1, 2, 3, 3]),
    (["[0, 1] * 2"], [0, 1, 0, 1]),
    (["2 * [5]"], [5, 5]),
    (["sum([[i, i] for i in range(3)], [])"], [0, 0, 1, 1, 2, 2]),
    (["sum(([i] for i in range(3)), start=[7])"], [7, 0, 1, 2]),
    (["range(0,12)[::-4]"], [11, 7, 3]),
    (["list(range(12))[-3:]"], [9, 10, 11]),
    (["sorted({3, 1})"], [1, 3]),
    (["sorted({*range(8)} - {2, 5})"], [0, 1, 3, 4, 6, 7]),
    (["sorted(range(3), reverse=True)"], [2, 1, 0]),
    (["reversed(range(4))"], [3, 2, 1, 0]),
    (["[x for p in zip(range(4), range(4)) for x in p]"], [0, 0, 1, 1, 2, 2, 3, 3]),
    (["[a + b for a, b in zip([1, 2], (3, 4))]"], [4, 6]),
    (["[i if i < 4 else 31 - i for i in range(6)]"], [0, 1, 2, 3, 27, 26]),
    (["[i for i in range(9) if 2 <= i < 5 or i in (7,)]"], [2, 3, 4, 7]),
    (["[i for i in range(9) if not i & 1 and i != 4]"], [0, 2, 6, 8]),
    (["(i for i in range(3))"], [0, 1, 2]),
    (["1, 2, 3"], [1, 2, 3]),
    (["range(-8, 0)"], [-8, -7, -6, -5, -4, -3, -2, -1]),
    (["[-1, -2]"], [-1, -2]),
    (["range(int(32 * 0.75), round(31.6))"], [*range(24, 32)]),
    (["range(len([1, 2]), max(4, 5), min([9, 2]))"], [2, 4]),
    (["[abs(-3), 7 // 2, 7 % 4, 2 ** 3, 1 << 2, ~-6, 6 ^ 3, +1]"], [3, 3, 3, 8, 4, 5, 5, 1]),
    (["[n for n in range(3)]"], [0, 1, 2]),
    (["[[0, 1], [2, 3]][1]"], [2, 3]),
    (["range(0, 24) # the lower part"], [*range(24)]),
    (["  range(0,\n  4)"], [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("layers", "expected"), FUSION_BENCH)
def test_fusion_bench_entries_give_fusion_bench_layers(layers, expected):
    assert fusion_bench(layers) == expected
    assert resolve_layer_indices(layers, 32) == [layer % 32 for layer in expected]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("0:24, 8:32", SOLAR),
        (["0:24", "8:32"], SOLAR),
        ("range(0,24), range(8,32)", SOLAR),
        (["range(0, n - 8)", "range(8, num_layers)"], SOLAR),
        (["0:24", "-24:"], SOLAR),
        (":", list(range(32))),
        ("::2", list(range(0, 32, 2))),
        ("::-1", list(range(31, -1, -1))),
        ("8:4:-1", [8, 7, 6, 5]),
        (":-30", [0, 1]),
        ("-2:", [30, 31]),
        ("n-2:n", [30, 31]),
        (":n//16", [0, 1]),
        ("0:32:31", [0, 31]),
        ("0:2, 7, 4:6", [0, 1, 7, 4, 5]),
        ("*range(2), 7", [0, 1, 7]),
        ("5", [5]),
        ("n - 1", [31]),
        ("-1", [31]),
        (5, [5]),
        (-32, [0]),
        ((0, 1), [0, 1]),
        (range(3), [0, 1, 2]),
        ([np.int64(3), "0:2"], [3, 0, 1]),
        (np.array([4, 5]), [4, 5]),
        (OmegaConf.create([0, "0:2", "range(30,32)"]), [0, 0, 1, 30, 31]),
    ],
)
def test_entries_in_our_own_syntax(layers, expected):
    assert resolve_layer_indices(layers, 32) == expected


@pytest.mark.parametrize(
    ("every", "repeated"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (4, [3]), (7, [6]), (8, [])]
)
def test_repeat_every_is_an_entry_that_repeats_each_kth_layer(every, repeated):
    assert resolve_layer_indices(repeat_every(every), 7) == sorted([*range(7), *repeated])


@pytest.mark.parametrize("every", [0, -1, True, 2.0, "2", None])
def test_repeat_every_refuses_what_is_no_positive_integer(every):
    with pytest.raises(PatternError, match=r"^repeat_every: expected a positive integer, got"):
        repeat_every(every)


def test_entries_are_resolved_one_by_one_for_recipes():
    assert resolve_entries(["0:2", -1, "[3, 3]"], 8) == ((0, 1), (7,), (3, 3))


def test_sources_are_plain_integers():
    assert all(type(source) is int for source in parse_layers([np.int32(1), "range(2)"], np.int64(4)))


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        (
            "range(8,40)",
            '--layers "range(8,40)": source layers 32 to 39 do not exist; the model has 32 layers (0 to 31); '
            'did you mean "range(8,32)"?',
        ),
        ("range(8, 40, 2)", "source layers 32, 34, 36, 38 do not exist"),
        ("range(8, 40, 2)", 'did you mean "range(8, 32, 2)"?'),
        ("0:33", '"0:33": source layer 32 does not exist; the model has 32 layers (0 to 31); did you mean "0:32"?'),
        ("0:33:5", "source layer 32 does not exist"),
        ("1:33", 'did you mean "0:32"?'),
        ("range(1,33)", 'did you mean "range(0,32)"?'),
        ("[*range(0,24), *range(8,40)]", 'did you mean "[*range(0,24), *range(8,32)]"?'),
        ("-40:", "source layers -40 to -33 do not exist"),
        ("40:", "source layer 40 does not exist"),
        (32, "--layers 32: source layer 32 does not exist; the model has 32 layers (0 to 31)"),
        (-33, "--layers -33: source layer -33 does not exist"),
        ([512], 'did you mean "8:32"?'),
        ("range(24,8)", '"range(24,8)": yields no layer; the model has 32 layers (0 to 31); did you mean "range('),
        ("24:8", 'yields no layer; the model has 32 layers (0 to 31); did you mean "8:24"?'),
        ("range(0-24)", 'did you mean "range(0,24)"?'),
        ("[]", '"[]": yields no layer; the model has 32 layers'),
        ("0:4, 8:8", "yields no layer"),
        ("0-24", '"0-24": is not a range; did you mean "0:24"'),
        ("0..24, 8..32", 'did you mean "0:24, 8:32"'),
        ("0 to 24", 'did you mean "0:24"'),
        ("0-23", '"0-23": is not a range; did you mean "0:24" (the second number is not included)?'),
        ("0-31, 8-30", 'did you mean "0:32, 8:30"'),
        ("0:24 6:30", '"0:24 6:30": holds 2 entries; quote each by itself: "0:24" "6:30"'),
        ("range(0, 24) 3 -1:", 'quote each by itself: "range(0, 24)" "3" "-1:"'),
        ("0:24 6:40", "is not a valid expression"),
        ("[8,32]", 'source layer 32 does not exist; the model has 32 layers (0 to 31); did you mean "8:32"?'),
        ("0:24;8:32", 'use a comma between ranges: "0:24, 8:32"'),
        (["range(0", "24)"], '"range(0": "(" is never closed; in a YAML list "range(0,24)" needs its quotes'),
        ("24)", '"24)": ")" closes no bracket before it'),
        ('["range(0,24)"]', 'pass each entry as its own argument: "range(0,24)" "range(8,32)"'),
        ("{1, 2}", '"{1, 2}": is a set, which has no order; write sorted(...) around it; the model has 32 layers'),
        ("list({1, 2})", "use sorted(...)"),
        ("[x for x in {1, 2}]", '"{1, 2}" is a set, which has no order; use sorted(...)'),
        ("[range(4), 5]", '"[range(4), 5]": yields a sequence inside a sequence'),
        ("range(4) + range(2)", "write separate entries, or unpack"),
        ("[True]", '"[True]": yields True, a bool, where a layer is needed; write 1 if the layer is meant; the model'),
        ("1 < 2", "yields True, a bool"),
        ("6 / 2", '"6 / 2": yields 3.0, a float, where a layer is needed; use // to divide'),
        ("range(n / 2)", "16.0, not a whole number; use // to divide"),
        ("None", '"None": is not a number'),
        ("[0, ...]", '"..." is not a number'),
        ("range(0, m)", '"range(0, m)": "m" is not a name of the language; n and num_layers are'),
        ("Range(0, 4)", '"Range" is not a name of the language; did you mean "range"?'),
        ("set(range(4))", "write {*...} for a set"),
        ("range", '"range": is a function; write range(...)'),
        ("[range for range in range(2)]", "choose another name for the variable"),
        ("np.arange(4)", '"np.arange" reads an attribute, which is not part of the language'),
        ("().__class__", '"__class__" is not part of the language'),
        ("__import__('os')", '"__import__" is not part of the language'),
        ("(lambda: 0)()", '"lambda" is not part of the language'),
        ("(x := 5)", '"x := 5" assigns a name'),
        ("{1: 2}", "is a dict"),
        ("1 is 1", "is not a comparison of numbers"),
        ("range(4)(5)", '"range(4)" is not a function'),
        ("range(0:4)", 'near ":4)"'),
        ("range(1, 2, 3, 4)", "passes 4 arguments to range; it takes 1 to 3"),
        ("range(stop=4)", "has an argument that range does not take here"),
        ("range(0, 4, 0)", "has a step of zero"),
        ("0:4:0", "has a step of zero"),
        ("[0, 1][2]", "is out of range: index 2 of 2 items"),
        ("1 // 0", "cannot be computed: "),
        ("[a for a, b in [(1, 2, 3)]]", '"a, b" unpacks 2 values from 3'),
        ("[x for r in [reversed([1])] for x in r]", "would hold an iterator"),
        ("range（0，4）", "（ (U+FF08) is not part of the language"),
        ("\x1b[31m0:4", "(U+001B) is not part of the language"),
        ("1if 1else 2", '"1if" is not a whole number'),
        ("", '--layers "": is empty'),
        (" \n", "is empty"),
        (["0:4", None], "--layers None: an entry is an integer, text or range, not None (null in YAML); the model has"),
        ([True], "--layers True: an entry is an integer, text or range, not a bool; the model has 32 layers"),
        ([np.bool_(True)], "not a bool"),
        ([1.0], "--layers 1.0: an entry is an integer, text or range, not a float; the model has 32 layers"),
        ([[0, 24], [8, 32]], "--layers [0, 24]: an entry is an integer, text or range, not a list; the model has 32"),
        ([[0, 24], [8, 32]], 'did you mean "0:24"?'),
        (OmegaConf.create([[0, 24]]), "not a ListConfig"),
        ([b"0:4"], "not a bytes"),
        ([], '--layers: names no layer; write at least one entry, such as "0:32"'),
        (None, "--layers: expected a list of integers and texts"),
        (True, "--layers: expected a list of integers and texts"),
        ({"layers": 1}, "--layers: expected a list of integers and texts"),
        ({1, 2}, "--layers: expected a list of integers and texts"),
        (b"0:4", "--layers: expected a list of integers and texts"),
    ],
)  # fmt: skip
def test_refusal_names_the_entry_and_suggests_a_fix(layers, parts):
    assert parts in refusal(layers)


def test_all_entries_out_of_range_are_reported_together():
    assert refusal(["0:33", 4, "range(8,40)", 50], where="recipe.yaml: layers") == (
        'recipe.yaml: layers "0:33": source layer 32 does not exist; "range(8,40)": source layers 32 to 39 '
        "do not exist; 50: source layer 50 does not exist; the model has 32 layers (0 to 31); "
        'did you mean "0:32" "range(8,32)"?'
    )
    assert "and 95 more entries" in refusal([*range(32, 132)])


def test_single_layer_model_is_described_in_the_singular():
    assert "source layer 1 does not exist; the model has 1 layer (0)" in refusal([1], 1)


@pytest.mark.parametrize("num_layers", [0, -1, True, None, "32", 32.0])
def test_depth_must_be_a_positive_integer(num_layers):
    assert "num_layers: expected a positive integer, got" in refusal(["0"], num_layers)


def test_nothing_is_executed(monkeypatch):
    def forbidden(*arguments, **keywords):
        raise AssertionError

    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    assert resolve_layer_indices(["[i for i in [1, 2] for _ in (0, 0)]", "sorted([3, 1])"], 32) == [1, 1, 2, 2, 1, 3]


HOSTILE = [
    "range(10**12)",
    "range(10**8)",
    "[0]*10**9",
    "10**9*[0]",
    "(0,)*10**9",
    "9**9**9",
    "9**-9**9",
    "2.0**64**64",
    "1<<10**9",
    "1<<64<<64",
    "list(range(10**9))",
    "sum(range(10**9))",
    "len(list(range(10**9)))",
    "max(range(10**9))",
    "sorted(range(10**9))",
    "[*range(10**9)]",
    "max(*range(10**9))",
    "list(zip(range(10**9), range(10**9)))",
    "[i for i in range(10**9)]",
    "{i for i in range(10**9)}",
    "1.5 in range(10**9)",
    "[i for i in range(9999) for j in range(9999) for k in range(9999)]",
    "[[0]*10000 for i in range(10000)]",
    "[y for x in [[0]*10000]*10000 for y in x]",
    "[[[[0]*10000]*10000]*10000]*10000",
    "[f for a in [[0]*2000] for b in [a+a] for c in [b+b] for d in [c+c] for e in [d+d] for f in e]",
    "sum([[0]*10000]*10000, [])",
    "sum([[i] for i in range(10001)], [])",
    "[[0]*5000 == [0]*5000 for i in range(10000)]",
    "[9999 in [0]*9999 for i in range(9999)]",
    "[max([0]*9999) for i in range(9999)]",
    "max(" + "[0]*9999," * 1000 + ")",
    "[i for i in range(10000) if " + " and ".join(["i+i-i+i"] * 20) + "]",
    "[" * 9999,
    "(" * 5000 + ")" * 5000,
    "-" * 9999 + "1",
    "not " * 2000 + "1",
    "2**" * 3000 + "2",
    "1 if 1 else " * 700 + "1",
    "n" + "[0]" * 3000,
    "1+" * 4999 + "1",
    "1<2<" * 2000 + "1",
    "range" + "(0)" * 3000,
    "{1:" * 2000 + "1" + "}" * 2000,
    "[a for a in " * 15 + "]" * 15,
    "{a:" * 15 + "}" * 15,
    "lambda x:" * 1000 + "0",
    "9" * 9999,
    "0x" + "f" * 9000,
    "a" * 9999,
    "a" * 10_001,
    "#" * 9999,
    "[" + "0," * 4999 + "99]",
    "99," * 3333,
    "0:9," * 2499 + "0:9",
    "::," * 3333,
    ":" * 9999,
    "," * 9999,
    "\n" * 9999,
    "0-24," * 1999 + "0-24",
    "x#\r]" * 100,
    "#\x00",
    "#\ud800",
    [0] * 10_001,
    ["0"] * 10_001,
    ["0:2"] * 6000,
    range(10**30),
    ["[i for i in range(1) for j in range(1)]"] * 10_000,
    ["1+" * 40 + "99"] * 10_000,
    ["range(40)", "range(50, 8)"] * 200,
    [10**6000],
    [[10**6000]],
    ["a" * 9999] * 9999,
]  # fmt: skip


@pytest.mark.parametrize("layers", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_pattern_is_refused_in_little_time_and_memory(layers):
    started = time.process_time()
    refusal(layers)
    assert time.process_time() - started < 1.0
    tracemalloc.start()
    try:
        refusal(layers)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_largest_patterns_are_still_read():
    assert len(parse_layers("[i // 2 for i in range(10000)]", 5000)) == 10_000
    assert len(parse_layers("sum([[i, i] for i in range(5000)], [])", 5000)) == 10_000
    assert len(parse_layers(["0"] * 10_000, 1)) == 10_000
    assert len(parse_layers([0] * 10_000, 1).entries) == 10_000
    assert len(parse_layers("+".join(["[0]"] * 50), 1)) == 50


# Expressions of the language by its own grammar. Sizes are kept small where Python, the oracle, has no bounds.
arithmetic = st.sampled_from(["+", "-", "*", "//", "%", "&", "|", "^"])
comparison = st.sampled_from(["<", "<=", "==", "!=", ">", ">="])
part = st.sampled_from(["::-1", "1:", ":-1", "::2", "-2:", "5:1:-1"])
step = st.sampled_from([1, -1, 2, 0])
integers = st.deferred(
    lambda: st.one_of(
        st.integers(-9, 9).map(str),
        st.sampled_from(["n", "num_layers", "(n - 8)", "0x1f", "1_0", "True"]),
        st.tuples(integers, arithmetic, integers).map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(integers, st.sampled_from(["** 2", ">> 1", "<< 3", "** 0"])).map("({0[0]} {0[1]})".format),
        st.tuples(st.sampled_from(["-", "+", "~", "not "]), integers).map("({0[0]}{0[1]})".format),
        st.tuples(st.sampled_from(["abs", "int", "round"]), integers).map("{0[0]}({0[1]})".format),
        st.tuples(st.sampled_from(["min", "max"]), integers, integers).map("{0[0]}({0[1]}, {0[2]})".format),
        st.tuples(st.sampled_from(["len", "sum", "min", "max"]), sequences).map("{0[0]}({0[1]})".format),
        st.tuples(sequences, integers).map("{0[0]}[{0[1]} % 3]".format),
        st.tuples(integers, conditions, integers).map("({0[0]} if {0[1]} else {0[2]})".format),
        st.tuples(integers, integers).map("int({0[0]} / {0[1]})".format),
    )
)  # fmt: skip
conditions = st.deferred(
    lambda: st.one_of(
        st.tuples(integers, comparison, integers).map("{0[0]} {0[1]} {0[2]}".format),
        st.tuples(integers, integers, integers).map("{0[0]} < {0[1]} <= {0[2]}".format),
        st.tuples(integers, st.sampled_from(["in", "not in"]), sequences).map("{0[0]} {0[1]} {0[2]}".format),
        st.tuples(conditions, st.sampled_from(["and", "or"]), conditions).map("({0[0]} {0[1]} {0[2]})".format),
        integers,
        sequences,
    )
)  # fmt: skip
sequences = st.deferred(
    lambda: st.one_of(
        st.lists(integers, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.tuples(integers, integers).map("({0[0]}, {0[1]})".format),
        integers.map("range({} % 9)".format),
        st.tuples(integers, integers, step).map("range({0[0]} % 9, {0[1]} % 9, {0[2]})".format),
        st.tuples(sequences, sequences).map("[*{0[0]}, *{0[1]}]".format),
        st.tuples(sequences, sequences).map("{0[0]} + {0[1]}".format).map("({})".format),
        st.tuples(sequences, st.integers(-1, 3)).map("{0[0]} * {0[1]}".format).map("({})".format),
        st.tuples(st.sampled_from(["list", "tuple", "sorted"]), sequences).map("{0[0]}({0[1]})".format),
        sequences.map("list(reversed({}))".format),
        sequences.map("sorted({{*{}}})".format),
        st.tuples(sequences, sequences).map("sorted({{*{0[0]}}} ^ {{*{0[1]}}})".format),
        sequences.map("sorted({}, reverse=True)".format),
        st.tuples(sequences, part).map("{0[0]}[{0[1]}]".format),
        st.tuples(integers, sequences, conditions).map("[{0[0]} + x for x in {0[1]} if {0[2]}]".format),
        st.tuples(sequences, sequences).map("[x for y in zip({0[0]}, {0[1]}) for x in y]".format),
        st.tuples(sequences, sequences).map("[x - y for x, y in zip({0[0]}, {0[1]})]".format),
        sequences.map("sum([[n, n] for n in {}], [])".format),
        sequences.map("list(i * 2 for i in {})".format),
        st.tuples(sequences, conditions, sequences).map("({0[0]} if {0[1]} else {0[2]})".format),
    )
)  # fmt: skip

FUNCTIONS = ("range", "list", "tuple", "sorted", "reversed", "sum", "min", "max", "abs", "len", "int", "round", "zip")
BUILTINS = {name: getattr(builtins, name) for name in FUNCTIONS}


@fuzzed(100)
@given(st.one_of(sequences, sequences.map("[x % n for x in {}]".format)))
def test_expressions_evaluate_as_in_python(text):
    depth = 32
    names = {"__builtins__": BUILTINS, "n": depth, "num_layers": depth}
    try:
        expected = list(eval(text, names))  # noqa: S307 - the oracle, on text of our own making
    except (TypeError, ValueError, ArithmeticError, IndexError):
        refusal(text)
        return
    sound = expected and all(type(index) is int and -depth <= index < depth for index in expected)
    if not sound:
        refusal(text)
        return
    try:
        assert resolve_layer_indices(text, depth) == [index % depth for index in expected]
    except PatternError as error:
        # Python has no bounds, and compares and tests whole sequences: these are the only ways to be stricter.
        assume(not any(word in str(error) for word in ("too large", "too deeply", "takes more than")))
        raise


WORDS = (
    "0 1 8 24 32 33 -1 n x range ( ) [ ] { } , : :: + - * ** // % / < == in not and or if else for is "
    "list sum sorted zip min True None . .. = := # \n \r \t ' \" \\ lambda __class__ _ 1e9 0x1 @ ! ~ ; é （ \x00 \ud800"
)
words = st.sampled_from(WORDS.split(" "))


@fuzzed(300)
@given(st.one_of(st.text(), st.lists(words, max_size=40).map(" ".join), st.lists(words, max_size=40).map("".join)))
@example("0x1for x in y")
@example("range(4)[0:2, 1]")
@example("*range(4)")
@example("[i async for i in x]")
@example("_")
def test_any_text_is_a_pattern_or_a_pattern_error(text):
    assert_resolved_or_refused(text)


@fuzzed(200)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
def test_any_value_is_a_pattern_or_a_pattern_error(layers):
    assert_resolved_or_refused(layers)


@fuzzed(300)
@given(st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 40), st.booleans())
def test_suggested_replacement_is_itself_accepted(start, stop, depth, as_slice):
    text = f"{start}:{stop}" if as_slice else f"range({start},{stop})"
    try:
        resolve_layer_indices(text, depth)
    except PatternError as error:
        _, offered, meant = str(error).partition("did you mean ")
        if offered:
            assert resolve_layer_indices(meant.split('"')[1], depth)


patterns = st.integers(1, 40).flatmap(
    lambda depth: st.tuples(
        st.lists(
            st.one_of(
                st.integers(0, depth - 1).map(lambda layer: [layer]),
                st.tuples(*[st.integers(0, depth)] * 2, st.sampled_from([1, 1, 2, 3, -1, -2])).map(
                    lambda bounds: [layer for layer in range(*bounds) if 0 <= layer < depth]
                ),
            ),
            min_size=1,
        ).map(lambda pieces: tuple(layer for piece in pieces for layer in piece)),
        st.just(depth),
    ).filter(lambda pattern: pattern[0])
)


@settings(max_examples=150, deadline=None)
@given(patterns)
def test_entries_of_a_pattern_resolve_to_the_pattern(pattern):
    expected = LayerPattern(*pattern)
    assert parse_layers(expected.entries, expected.num_source_layers) == expected
    assert parse_layers(", ".join(expected.entries), expected.num_source_layers) == expected
    assert len(expected.entries) <= len(expected)


@settings(max_examples=100, deadline=None)
@given(patterns)
def test_properties_of_a_pattern_agree_with_their_definitions(pattern):
    sources, depth = pattern
    value = LayerPattern(sources, depth)
    assert value.occurrences == tuple(sources[:target].count(source) for target, source in enumerate(sources))
    assert value.counts == tuple(sources.count(layer) for layer in range(depth))
    assert value.repeats == tuple(target for target in range(len(sources)) if sources[target] in sources[:target])
    assert value.dropped == tuple(layer for layer in range(depth) if layer not in sources)
    assert value.seams == tuple(
        target for target in range(1, len(sources)) if sources[target] != sources[target - 1] + 1
    )
    assert [layer for run in value.runs for layer in range(*run)] == list(sources)
    assert len(value.runs) == len(value.seams) + 1
    originals = [source for source, number in zip(sources, value.occurrences, strict=True) if number == 0]
    assert value.keeps_source_order == (originals == list(range(depth)))


def test_solar_has_one_seam_and_two_runs():
    solar = parse_layers(["range(0,24)", "range(8,32)"], 32)
    assert (len(solar), solar.seams, solar.runs) == (48, (24,), ((0, 24), (8, 32)))
    assert solar.entries == ("0:24", "8:32")
    assert solar.repeats == tuple(range(24, 40))
    assert solar.keeps_source_order


def test_shortest_spelling_uses_steps_where_they_help():
    assert parse_layers("::2", 32).entries == ("0:32:2",)
    assert parse_layers("::-1", 32).entries == ("31::-1",)
    assert parse_layers([3, 1], 4).entries == ("3", "1")
    assert parse_layers(["0:4", 3, "4:8", 7], 8).entries == ("0:4", "3:8", "7")


@pytest.mark.parametrize(
    ("layers", "meaning"),
    [
        ([range(6), range(2, 8)], [*range(6), *range(2, 8)]),
        ([slice(0, 6), slice(2, None)], [*range(6), *range(2, 8)]),
        (range(8), [*range(8)]),
        (slice(None, None, -1), [*range(7, -1, -1)]),
        ([range(7, -1, -1), 3, "n-1"], [*range(7, -1, -1), 3, 7]),
    ],
)
def test_ranges_and_slices_are_entries(layers, meaning):
    assert resolve_layer_indices(layers, num_layers=8) == meaning


@pytest.mark.parametrize("entry", [range(2, 9), slice(2, 9), slice(0, 3.5), range(0)])
def test_range_or_slice_that_does_not_fit_is_refused_as_its_text_would_be(entry):
    with pytest.raises(PatternError):
        resolve_layer_indices([entry], num_layers=8)
