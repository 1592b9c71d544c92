"""What a model server says, and what the API server's proxy says in its place."""

import threading

import pytest

from llm_rollout.adapters import model_server
from llm_rollout.adapters.model_server import ProxiedModelServer
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Endpoint, Reply

LEADER = Endpoint("default", "pods", "chat-aaaaaaaa-0", 8000)
PATH = "/v1/completions"
QUESTION = {"model": "chat", "prompt": "1+1="}
UNKNOWN_MODEL = {"error": {"message": "The model `other` does not exist.", "code": 404}}
SAY = {
    "get": lambda server: server.get(LEADER, "/v1/models"),
    "post": lambda server: server.post(LEADER, PATH, QUESTION),
    "stream": lambda server: list(server.stream(LEADER, PATH, QUESTION)),
}


@pytest.fixture
def server(configuration):
    return ProxiedModelServer(configuration)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(model_server, "TIMEOUT_SECONDS", 0.2)


@pytest.fixture
def streams(stub):
    """Let the stub stream these lines, then end as told: the stream's own end, a cut, or silence."""

    def play(*texts, end="whole"):
        def script(handler):
            handler.begin_stream()
            for text in texts:
                handler.chunk(text)
            {"whole": lambda: handler.chunk(""), "cut": handler.cut, "silence": lambda: stub.hold(handler)}[end]()

        stub.play = script

    return play


def status_of(status, message):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}


@pytest.mark.parametrize("resource", ["pods", "services"])
def test_a_question_goes_through_the_proxy_of_the_api_server_with_its_identity(stub, server, token, resource):
    stub.answer(200, {"choices": []})

    reply = server.post(Endpoint("models", resource, "chat", 8000), PATH, QUESTION)

    assert reply == Reply(200, {"choices": []})
    (asked,) = stub.asked
    assert asked.path == f"/api/v1/namespaces/models/{resource}/chat:8000/proxy{PATH}"
    assert asked.headers["Authorization"] == f"Bearer {token}"
    assert asked.body == QUESTION


def test_text_stays_text(stub, server):
    stub.answer(200, 'vllm:num_requests_waiting{model_name="chat"} 0.0\n', content_type="text/plain")

    assert server.get(LEADER, "/metrics") == Reply(200, 'vllm:num_requests_waiting{model_name="chat"} 0.0\n')


@pytest.mark.parametrize(("status", "body"), [(404, UNKNOWN_MODEL), (400, {"error": "x"}), (500, "oops"), (401, {})])
@pytest.mark.parametrize("way", ["get", "post"])
def test_what_the_model_server_refuses_is_its_reply(stub, server, way, status, body):
    stub.answer(status, body)

    assert SAY[way](server) == Reply(status, body)


def test_a_stream_for_a_model_that_is_not_there_is_refused_in_the_words_of_the_server(stub, server):
    stub.answer(404, UNKNOWN_MODEL)

    with pytest.raises(Permanent, match=f"chat-aaaaaaaa-0 answered 404 on {PATH}: .*`other` does not exist"):
        SAY["stream"](server)


@pytest.mark.parametrize("way", SAY)
@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize(
    "body", [status_of(503, "error trying to reach service"), "<html>bad gateway</html>"], ids=["proxy", "ingress"]
)
def test_a_server_that_is_not_reached_is_transient(stub, server, way, status, body):
    stub.answer(status, body)

    with pytest.raises(Transient, match=f"chat-aaaaaaaa-0 is not reached on .*: the proxy answered {status}"):
        SAY[way](server)


@pytest.mark.parametrize("way", ["get", "post"])
def test_a_model_server_that_says_503_itself_has_answered(stub, server, way):
    stub.answer(503, {"error": {"message": "engine is dead"}})

    assert SAY[way](server).status == 503


@pytest.mark.parametrize("way", SAY)
def test_a_missing_right_is_named_with_where_to_grant_it(stub, server, way):
    stub.answer(403, status_of(403, "cannot create resource pods/proxy"))

    with pytest.raises(Permanent, match=r"cannot create resource pods/proxy: grant pods/proxy in deploy/rbac\.yaml"):
        SAY[way](server)


@pytest.mark.parametrize("way", SAY)
def test_an_unknown_identity_is_told_without_its_token(stub, server, token, way):
    stub.answer(401, status_of(401, f"the token {token} has expired"))

    with pytest.raises(Permanent, match="check the Kubernetes connection") as raised:
        SAY[way](server)

    assert token not in str(raised.value)


def test_a_whole_stream_is_given_out_as_it_was_said(streams, stub, server):
    streams('data: {"n": 1}\n\n', ": a comment\n\n", 'data: {"n"', ": 2}\n\ndata: [DONE]\n\n")

    assert SAY["stream"](server) == ['{"n": 1}', '{"n": 2}', "[DONE]"]
    assert stub.asked[-1].body == {**QUESTION, "stream": True}


def test_a_stream_that_ends_without_done_ends_without_done(streams, server):
    streams("data: 1\n\n")

    assert SAY["stream"](server) == ["1"]


def test_what_is_no_json_is_given_out_for_the_reader_to_judge(streams, server):
    streams("data: <html>\n\n", "data: [DONE]\n\n")

    assert SAY["stream"](server) == ["<html>", "[DONE]"]


def test_a_cut_stream_gives_what_came_and_then_says_so(streams, server):
    streams("data: 1\n\n", "data: 2\n\n", end="cut")
    stream = server.stream(LEADER, PATH, QUESTION)

    assert [next(stream), next(stream)] == ["1", "2"]
    with pytest.raises(Transient, match="the stream from chat-aaaaaaaa-0 broke: RemoteProtocolError"):
        next(stream)


@pytest.mark.usefixtures("impatient")
def test_a_stream_that_falls_silent_is_given_up(streams, server):
    streams("data: 1\n\n", end="silence")
    stream = server.stream(LEADER, PATH, QUESTION)

    assert next(stream) == "1"
    with pytest.raises(Transient, match="the stream from chat-aaaaaaaa-0 broke: ReadTimeout"):
        next(stream)


@pytest.mark.usefixtures("impatient")
def test_a_slow_stream_is_not_given_up_while_it_goes_on(stub, server):
    """The limit is for silence: a long answer may take longer than it as a whole."""
    pauses = [0.05] * 8

    def slow(handler):
        handler.begin_stream()
        for pause in pauses:
            stub.over.wait(pause)
            handler.chunk("data: token\n\n")
        handler.chunk("data: [DONE]\n\n")
        handler.chunk("")

    stub.play = slow

    assert sum(pauses) > model_server.TIMEOUT_SECONDS
    assert SAY["stream"](server) == ["token"] * len(pauses) + ["[DONE]"]


def test_a_stream_that_nobody_reads_on_is_closed(stub, server):
    gone = threading.Event()

    def endless(handler):
        handler.begin_stream()
        try:
            while not stub.over.wait(0.005):
                handler.chunk("data: token\n\n")
        except ConnectionError:
            gone.set()
            raise

    stub.play = endless
    stream = server.stream(LEADER, PATH, QUESTION)
    next(stream)

    stream.close()

    assert gone.wait(60), "the server still writes to a client that has gone"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", ["get", "post"])
def test_a_server_that_says_nothing_is_given_up(stub, server, way):
    stub.play = stub.hold

    with pytest.raises(Transient, match=r"chat-aaaaaaaa-0 did not answer on .*: ReadTimeout"):
        SAY[way](server)


@pytest.mark.parametrize("way", SAY)
def test_nobody_listening_is_transient(configuration, way):
    configuration.host = "http://127.0.0.1:1"

    with pytest.raises(Transient, match=r"chat-aaaaaaaa-0.*ConnectError"):
        SAY[way](ProxiedModelServer(configuration))
