import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.fabric.reading import ERROR_CLASSES, TOOLS, TRANSPORTS, read

SAMPLES = Path(__file__).parent / "samples"
NAMES = sorted(path.name for path in SAMPLES.iterdir())
GATES = ("gate_gbps", "gate_busbw_gbytes", "gate_usec")
KEYS = ["tool", "status", "rows", *GATES, "error_class", "transport"]
LAST_WORDS = {
    "nccl_tests_old": "Avg bus bandwidth",
    "nccl_tests_all": "# Collective test concluded: all_reduce_perf",
    "perftest_write_bw_below_limit": "-" * 87,
}
"""Where a report ends although the file goes on. What follows a report that is whole cannot be missed."""
COLOURS = ("\x1b[31m", "\x1b[0m", "\x1b[1;32m", "\x1b[K")


def content(name):
    return (SAMPLES / name).read_bytes()


def end_of_report(name, data):
    last = next((words for start, words in LAST_WORDS.items() if name.startswith(start)), None)
    at = data.rfind(last.encode()) if last else -1
    return data.index(b"\n", at) if at >= 0 else len(data.rstrip())


def check_form(told):
    """What holds for every answer, whatever was read."""
    assert list(told) == KEYS
    assert told["tool"] in TOOLS
    assert told["status"] in {"ok", "failed", "unreadable"}
    assert told["error_class"] in {*ERROR_CLASSES, None}
    assert told["transport"] in {*TRANSPORTS, None}
    set_gates = [told[key] for key in GATES if told[key] is not None]
    assert len(set_gates) <= (told["status"] == "ok")
    assert (told["error_class"] in {None, "no-gdr"}) == (told["status"] == "ok")
    assert told["status"] != "ok" or told["transport"] != "socket"
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("nccl_log", "ibv_devinfo"))])
def test_no_report_that_was_cut_is_ok(name):
    data = content(name)
    told = [read(data[:size]).as_json() for size in range(end_of_report(name, data))]

    assert [size for size, each in enumerate(told) if each["status"] == "ok"] == []
    for each in told:
        check_form(each)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("nccl_log")])
def test_a_log_that_was_cut_is_ok_only_where_every_rank_that_began_came_up_and_never_where_it_failed(name):
    """A log has no end, so ranks of which nothing is there cannot be missed."""
    data = content(name)
    told = [read(data[:size]).as_json() for size in range(len(data))]
    whole = [data[:size] for size, each in enumerate(told) if each["status"] == "ok"]

    assert all(part.count(b"Init START") <= part.count(b"Init COMPLETE") for part in whole)
    assert not whole or read(data).status != "failed"
    for each in told:
        check_form(each)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ibv_devinfo")])
def test_a_listing_of_devices_that_was_cut_is_ok_only_behind_a_whole_device(name):
    """The listing does not say how many devices there are."""
    data = content(name).decode()
    for size in range(len(data)):
        told = read(data[:size].encode()).as_json()
        check_form(told)
        if told["status"] == "ok":
            assert (
                len(told["rows"])
                == data[:size].count("hca_id:")
                == len(re.findall(r"link_layer:\s+(?:Ether|Infini)", data[:size]))
            )


def both_ends():
    """The lines of a client and of a server of one run."""
    client = content("perftest_write_bw_gbits.txt").decode().splitlines(keepends=True)
    server = content("perftest_write_bw_server.txt").decode().splitlines(keepends=True)
    return client, server


@st.composite
def interleaved(draw):
    client, server = both_ends()
    order = draw(st.permutations([0] * len(client) + [1] * len(server)))
    lines = (iter(client), iter(server))
    return "".join(next(lines[side]) for side in order)


@settings(max_examples=200, deadline=None)
@given(interleaved())
def test_both_ends_in_one_capture_are_one_run_in_whatever_order_their_lines_come(text):
    told = read(text.encode()).as_json()

    assert (told["tool"], told["status"], told["transport"]) == ("ib_write_bw", "ok", "roce")
    assert told["gate_gbps"] == pytest.approx(391.27)


@settings(max_examples=300, deadline=None)
@given(interleaved(), st.integers(min_value=1, max_value=2**30))
def test_a_line_that_is_missing_from_one_end_is_noticed(text, where):
    """Of the lines that end a report: without one of them, one of the two ends may have died."""
    lines = text.splitlines(keepends=True)
    rules = [place for place, line in enumerate(lines) if re.fullmatch(r"-{87}\n", line)]
    del lines[rules[where % len(rules)]]

    assert read("".join(lines).encode()).status != "ok"


@settings(max_examples=200, deadline=None)
@given(interleaved(), st.sampled_from([name for name in NAMES if "_timeout." in name or "_then_access" in name]))
def test_a_failure_of_one_end_is_a_failure_of_the_run(text, name):
    failure = content(name).decode()
    told = read((text + failure[failure.index(" Completion") :]).encode()).as_json()

    assert (told["status"], told["gate_gbps"]) == ("failed", None)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([name for name in NAMES if not name.endswith(".json")]), st.data())
def test_tabs_carriage_returns_and_colours_change_nothing(name, data):
    text = content(name).decode()
    expected = read(text.encode()).as_json()
    places = data.draw(st.lists(st.integers(min_value=0, max_value=len(text)), max_size=6))
    for place in sorted(places, reverse=True):
        text = text[:place] + data.draw(st.sampled_from(COLOURS)) + text[place:]
    if data.draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    if name.startswith(("perftest", "nccl_tests_old")) and data.draw(st.booleans()):
        text = re.sub(r"(?<=\d) +(?=\d)", "\t", text)

    assert read(text.encode()).as_json() == expected


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_damage_never_crashes_and_never_makes_a_failed_run_ok(name, data):
    raw = bytearray(content(name))
    before = read(bytes(raw))
    for _ in range(data.draw(st.integers(min_value=1, max_value=8))):
        raw.insert(data.draw(st.integers(min_value=0, max_value=len(raw))), data.draw(st.integers(0, 255)))
    check_form(read(bytes(raw)).as_json())
    reread = read(content(name) + bytes(raw))

    assert before.status != "failed" or reread.status != "ok"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.data())
def test_any_mixture_of_lines_is_answered_in_the_closed_words(names, data):
    lines = [line for name in names for line in content(name).decode().splitlines(keepends=True)]
    chosen = data.draw(st.lists(st.sampled_from(lines), max_size=40))
    check_form(read("".join(chosen).encode()).as_json())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_answered(data):
    told = read(data).as_json()
    check_form(told)
    assert told["status"] != "ok" or told["tool"] == "network-status"
