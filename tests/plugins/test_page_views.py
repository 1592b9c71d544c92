from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest

from llm_rollout.record import Record, Revision, RolloutResult, StepResult
from llm_rollout.spec import RolloutSpec
from rollout_airflow.page import rendering, timeline, views
from rollout_airflow.page.reading import Reading

from .conftest import SPEC

BEGAN = 1_790_000_000.0
CHAT = RolloutSpec.model_validate(SPEC)
HOSTILE = """<script>alert("it's")</script><img src=x onerror='alert(1)'>"""


def step(name: str, verdict: Any, began: float, ended: float | None, waited: float = 0.0, **more: Any) -> StepResult:
    more = {"summary": f"{name} in short"} | more
    end = None if ended is None else BEGAN + ended
    return StepResult(step=name, verdict=verdict, started=BEGAN + began, ended=end, waited_seconds=waited, **more)


def record(*steps: StepResult, **entry: Any) -> Record:
    entry = {"run_id": "manual__1+00:00", "revision": "v2", "started": BEGAN} | entry
    revision = Revision(revision_id="abcdefgh", commit="1" * 40, lws="chat-abcdefgh", manifests=({"kind": "Secret"},))
    return Record(name="chat", current=revision, rollouts=(RolloutResult(steps=steps, **entry),))


def html(found: Record, now: float = BEGAN + 100) -> str:
    return rendering.page(Reading((views.model(CHAT, found, now),)), now)


FINISHED = record(
    step("plan_rollout", "done", 0, 10),
    step("stage_weights", "done", 10, 50, waited=30.0),
    step("validate_rdma", "done", 12, 20),
    step("create_group", "fail", 50, 100, remedy="free 8 GPUs"),
    outcome="rolled_back",
    ended=BEGAN + 110,
    reason="create_group failed: no GPUs.",
)


def test_segments_are_as_wide_as_their_steps_took_and_lighter_where_they_waited():
    picture = timeline.pictures(views.model(CHAT, FINISHED, BEGAN + 500).rollouts)[0]
    drawn = {one.step.step: (one.x, one.width, one.work_width) for one in picture.segments}
    assert drawn == {
        "plan_rollout": (0.0, 96.0, 96.0),
        "stage_weights": (96.0, 384.0, 96.0),
        "validate_rdma": (115.2, 76.8, 76.8),
        "create_group": (480.0, 480.0, 480.0),
    }


def test_steps_that_ran_side_by_side_lie_in_two_lanes():
    picture = timeline.pictures(views.model(CHAT, FINISHED, BEGAN + 500).rollouts)[0]
    assert {one.step.step: one.y for one in picture.segments} == {
        "plan_rollout": 0.0,
        "stage_weights": 0.0,
        "validate_rdma": timeline.LANE,
        "create_group": 0.0,
    }
    assert picture.height == 2 * timeline.LANE


def test_all_rollouts_of_a_model_have_one_scale():
    long, short = step("plan_rollout", "done", 0, 200), step("plan_rollout", "done", 0, 50)
    found = record(long).model_copy(
        update={
            "rollouts": tuple(record(one, run_id=one_id).rollouts[0] for one, one_id in ((long, "a"), (short, "b")))
        }
    )
    newest, oldest = timeline.pictures(views.model(CHAT, found, BEGAN + 300).rollouts)
    assert (newest.segments[0].width, oldest.segments[0].width) == (240.0, 960.0)


def test_a_night_between_two_steps_is_cut_out_and_said():
    found = record(step("plan_rollout", "done", 0, 50), step("stage_weights", "done", 36_050, 36_100))
    picture = timeline.pictures(views.model(CHAT, found, BEGAN + 40_000).rollouts)[0]
    assert [one.width for one in picture.segments] == [480.0, 480.0]
    assert picture.pauses == (timeline.Pause(480.0, 36_000.0),)
    assert "10 h 00 min in which no step was at work" in html(found)


def test_nothing_is_drawn_outside_of_the_picture():
    found = record(step("plan_rollout", "done", 0, 1000), step("stage_weights", "done", 1000, 1000))
    last = timeline.pictures(views.model(CHAT, found, BEGAN + 2000).rollouts)[0].segments[-1]
    assert last.x + last.width <= timeline.WIDTH
    assert last.width == timeline.NARROWEST


def test_a_segment_has_its_width_and_says_step_verdict_times_and_summary():
    group = re.search(r'<g class="failed">\s*<title>(.*?)</title>(.*?)</g>', html(FINISHED), re.DOTALL)
    assert group is not None
    assert group[1] == "create_group: failed, 50 s, of it waited 0 s. create_group in short"
    assert '<rect class="work" x="480.0" y="0.0" width="480.0"' in group[2]
    assert "\u2715 create_group</text>" in group[2]


def test_a_label_that_does_not_fit_is_left_to_the_title():
    found = record(step("plan_rollout", "done", 0, 1), step("stage_weights", "done", 1, 1000))
    text = html(found)
    assert ">plan_rollout</text>" not in text
    assert ">stage_weights</text>" in text
    assert "<title>plan_rollout: done" in text


def test_the_running_step_grows_with_the_clock_and_is_all_waiting():
    found = record(step("plan_rollout", "done", 0, 10), step("stage_weights", "wait", 10, None, summary="3 of 9 files"))
    model = views.model(CHAT, found, BEGAN + 70)
    assert model.running is not None
    assert [(one.step, one.seconds, one.waited_seconds) for one in model.running.at_work] == [("stage_weights", 60, 60)]
    text = html(found, BEGAN + 70)
    assert re.search(r"stage_weights</a> for 1 min 00 s: 3 of 9 files", text)
    assert '<span class="badge running">running</span>' in text


def test_a_rollout_that_is_not_the_newest_is_not_running():
    older, newer = (record(run_id=name).rollouts[0] for name in ("a", "b"))
    model = views.model(CHAT, Record(name="chat", rollouts=(older, newer)), BEGAN)
    assert [(one.run_id, one.outcome) for one in model.rollouts] == [("b", "running"), ("a", "interrupted")]


def test_what_a_stopped_rollout_waited_for_does_not_grow():
    found = record(step("stage_weights", "wait", 0, None, waited=20.0), outcome="failed", ended=BEGAN + 30)
    shown = views.model(CHAT, found, BEGAN + 9000).rollouts[0].steps[0]
    assert (shown.state, shown.seconds) == ("stopped", 20.0)


def test_the_last_failure_has_reason_remedy_and_a_link_to_the_task():
    text = html(FINISHED)
    assert "create_group failed: no GPUs." in text
    assert "<strong>Remedy:</strong> free 8 GPUs" in text
    assert 'href="/dags/roll_out__chat/runs/manual__1%2B00%3A00/tasks/create_group"' in text


def test_a_return_links_to_the_dag_that_made_it():
    model = views.model(CHAT, record(target="abcdefgh"), BEGAN)
    assert model.rollouts[0].href == "/dags/roll_back__chat/runs/manual__1%2B00%3A00"


@pytest.mark.parametrize("field", ["run_id", "revision", "reason"])
def test_hostile_text_of_a_rollout_is_escaped(field: str):
    text = html(record(step("plan_rollout", "done", 0, 10), **{field: HOSTILE}))
    assert text.count("<script>") == 1, "only the page's own"
    assert "<img" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("field", ["step", "summary", "remedy"])
def test_hostile_text_of_a_step_is_escaped(field: str):
    hostile = step("plan_rollout", "fail", 0, 10).model_copy(update={field: HOSTILE})
    text = html(record(hostile))
    assert text.count("<script>") == 1, "only the page's own"
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_hostile_text_cannot_leave_an_attribute():
    text = html(record(step("plan_rollout", "done", 0, 10), run_id='x" onmouseover="alert(1)'))
    assert 'onmouseover="' not in text
    assert 'aria-label="steps of x&#34; onmouseover=&#34;alert(1)"' in text


def test_secrets_in_a_record_are_not_shown():
    token, password = "hf_abcdefghijklmnop", "https://user:pw@mirror/x"
    told = step("plan_rollout", "fail", 0, 10, summary=f"401 for {token}", remedy=password, evidence={"t": token})
    text = html(record(told, reason=f"{token} {password}"))
    assert token not in text
    assert "user:pw" not in text
    assert "hf_***" in text


def test_manifests_and_evidence_are_no_part_of_the_page():
    text = html(record(step("plan_rollout", "done", 0, 10, evidence={"key": "what was seen"})))
    assert "Secret" not in text
    assert "what was seen" not in text


def test_a_model_without_a_rollout_says_how_to_start_one():
    text = html(Record(name="chat"))
    assert "No rollout yet" in text
    assert '<a href="/dags/roll_out__chat" target="_top">roll_out__chat</a>' in text
    assert "<svg" not in text


def test_a_page_without_models_says_why():
    assert "No model to show" in rendering.page(Reading(()), BEGAN)


def test_only_the_newest_rollouts_are_shown():
    entries = tuple(record(run_id=f"run-{number}").rollouts[0] for number in range(20))
    shown = views.model(CHAT, Record(name="chat", rollouts=entries), BEGAN).rollouts
    assert [one.run_id for one in shown] == [f"run-{number}" for number in range(19, 11, -1)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.4, "0.4 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (3720, "1 h 02 min"),
     (183_600, "2 d 03 h")],
)  # fmt: skip
def test_durations_are_said_in_two_units(seconds: float, text: str):
    assert rendering.duration(seconds) == text


def test_the_policy_admits_the_style_and_the_script_of_the_page_as_they_stand_in_it():
    text = html(FINISHED)
    for tag in ("style", "script"):
        inside = text.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in rendering.CONTENT_SECURITY_POLICY


def test_the_page_loads_nothing_from_elsewhere():
    assert re.findall(r"""(?:src=|@import|url\(|https?:)[^\s>]*""", html(FINISHED)) == []
