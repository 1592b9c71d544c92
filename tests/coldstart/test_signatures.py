import re

import pytest

from llm_rollout.coldstart import words
from llm_rollout.coldstart.endings import GENERIC, TERMINATED
from llm_rollout.coldstart.remedies import remedy
from llm_rollout.coldstart.signatures import SIGNATURES, signature_of
from llm_rollout.spec import RolloutSpec

_CLASSES = sorted(words.LOG_CLASSES | words.CLUSTER_CLASSES)


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda each: f"{each.class_name}-{each.example[:30]}")
def test_every_example_is_known_by_its_own_row_and_by_none_above_it(signature):
    assert signature_of(signature.example) is signature


def test_every_class_of_a_log_has_a_row():
    without_words = {"UNKNOWN", "TERMINATED"}
    assert {each.class_name for each in SIGNATURES} == words.LOG_CLASSES - without_words


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
        "Exception: WorkerProc initialization failed due to an exception in a background process.",
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)",
        "WorkerProc hit an exception.",
    ],
)
def test_that_the_engine_ended_names_no_class(text):
    assert GENERIC.search(text)
    assert signature_of(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "[shutdown] Process manager: send sigterm to process EngineCore",
        "[shutdown] Executor: sending SIGTERM count=2",
        "[shutdown] MPClient: start timeout=None",
    ],
)
def test_how_an_engine_tidies_up_after_an_error_is_no_request_to_stop(text):
    assert not TERMINATED.search(text)


@pytest.mark.parametrize("class_name", _CLASSES)
def test_every_class_has_a_remedy_and_names_only_fields_that_a_spec_has(class_name):
    told = remedy(class_name)
    assert len(told) > 10
    for path in re.findall(r"\b(?:server|model|store|timing|service|fabric)\.[a-z_.]+[a-z_]", told):
        if path not in {"server.network.socket_interface", "config.json"} and path != "server.executor":
            _field(path)


def _field(path):
    model = RolloutSpec
    for name in path.split("."):
        assert name in model.model_fields, f"{path}: {model.__name__} has no field {name}"
        model = model.model_fields[name].annotation


def test_a_class_that_is_not_in_the_closed_list_has_no_remedy():
    with pytest.raises(KeyError):
        remedy("GREMLINS")
