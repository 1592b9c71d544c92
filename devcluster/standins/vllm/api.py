"""The HTTP endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from devcluster.standins.vllm import VERSION
from devcluster.standins.vllm.checks import ModelConfig
from devcluster.standins.vllm.engine import Engine
from devcluster.standins.vllm.forms import ChatForm, CompletionForm, Form
from devcluster.standins.vllm.generation import Generation, Generator
from devcluster.standins.vllm.metrics import Metrics
from devcluster.standins.vllm.requests import (
    ApiError,
    Common,
    bad_request,
    check_neutral,
    common,
    sampling,
    token_limit,
)  # fmt: skip
from devcluster.standins.vllm.text import TextModel

_COMPLETION_TOKENS = 16
"""What OpenAI's API gives a completion that names no limit."""


@dataclass(frozen=True)
class Service:
    """Everything the endpoints answer from."""

    names: tuple[str, ...]
    root: str
    created: int
    api_keys: tuple[str, ...]
    model: ModelConfig
    text: TextModel
    engine: Engine
    generator: Generator
    metrics: Metrics


def application(service: Service) -> Starlette:
    """Return the ASGI application."""
    endpoints = _Endpoints(service)
    routes = [
        Route("/health", endpoints.health),
        Route("/ping", endpoints.health, methods=["GET", "POST"]),
        Route("/version", endpoints.version),
        Route("/metrics", endpoints.metrics),
        Route("/v1/models", _guarded(service, endpoints.models)),
        Route("/v1/completions", _guarded(service, endpoints.completions), methods=["POST"]),
        Route("/v1/chat/completions", _guarded(service, endpoints.chat), methods=["POST"]),
        Route("/tokenize", _guarded(service, endpoints.tokenize), methods=["POST"]),
        Route("/detokenize", _guarded(service, endpoints.detokenize), methods=["POST"]),
    ]
    return Starlette(routes=routes)


_Endpoint = Callable[[Request], Awaitable[Response]]


def _guarded(service: Service, endpoint: _Endpoint) -> _Endpoint:
    """Ask for an API key where one is set, and turn errors into their JSON."""

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if service.api_keys and request.url.path.startswith("/v1") and given not in service.api_keys:
            return JSONResponse({"error": "Unauthorized"}, 401)
        try:
            return await endpoint(request)
        except ApiError as error:
            return JSONResponse(error.body(), error.code)

    return guarded


class _Endpoints:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, _: Request) -> Response:
        return Response(status_code=503 if self._service.engine.dead else 200)

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def metrics(self, _: Request) -> Response:
        text = self._service.metrics.text(*self._service.engine.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models(self, _: Request) -> Response:
        service = self._service
        cards: list[dict[str, Any]] = [
            {
                "id": name,
                "object": "model",
                "created": service.created,
                "owned_by": "vllm",
                "root": service.root,
                "parent": None,
                "max_model_len": service.model.max_model_len,
                "permission": [],
            }
            for name in service.names
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        prompt = self._completion_prompt(body)
        limit = token_limit(body, _COMPLETION_TOKENS, len(prompt), self._service.model.max_model_len)
        wanted = body.get("logprobs")
        if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0):
            raise bad_request("`logprobs` must be a positive value.", "logprobs")
        chosen = sampling(body, max_tokens=limit, logprobs=wanted)
        echo = bool(body.get("echo"))
        if echo and wanted is not None and chosen.prompt_logprobs is None:
            chosen = replace(chosen, prompt_logprobs=wanted)
        form = CompletionForm(self._name(body), prompt, self._service.text, wanted is not None)
        form.echo = self._service.text.decode(prompt) if echo else ""
        return await self._answer(request, common(body), form, self._service.generator.begin(prompt, chosen))

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise bad_request("messages: a list of at least one message is needed.", "messages")
        prompt = self._chat_prompt(body, messages)
        limit = token_limit(body, None, len(prompt), self._service.model.max_model_len)
        wanted = int(body.get("top_logprobs") or 0) if body.get("logprobs") else None
        form = ChatForm(self._name(body), prompt, self._service.text, wanted is not None)
        chosen = sampling(body, max_tokens=limit, logprobs=wanted)
        return await self._answer(request, common(body), form, self._service.generator.begin(prompt, chosen))

    async def tokenize(self, request: Request) -> Response:
        body = await self._body(request, checked=False)
        if body.get("messages"):
            tokens = self._chat_prompt(body, body["messages"])
        else:
            special = body.get("add_special_tokens", True) is not False
            tokens = self._service.text.encode(str(body.get("prompt", "")), add_special_tokens=special)
        size = self._service.model.max_model_len
        return JSONResponse({"count": len(tokens), "max_model_len": size, "tokens": tokens, "token_strs": None})

    async def detokenize(self, request: Request) -> Response:
        body = await self._body(request, checked=False)
        return JSONResponse({"prompt": self._service.text.decode(_ids(body.get("tokens")), skip_special=False)})

    async def _body(self, request: Request, *, checked: bool = True) -> dict[str, Any]:
        """Return the JSON of a request for one of our models.

        Raises:
            ApiError: 400 for what is no JSON object or not supported, 404 for unknown models.
        """
        try:
            body = json.loads(await request.body())
        except ValueError as error:
            raise bad_request(f"JSON decode error: {error}") from error
        if not isinstance(body, dict):
            raise bad_request("Input should be a valid dictionary")
        self._name(body)
        if checked:
            check_neutral(body)
        return body

    def _name(self, body: dict[str, Any]) -> str:
        name = body.get("model") or self._service.names[0]
        if name not in self._service.names:
            raise ApiError(404, "NotFoundError", f"The model `{name}` does not exist.", "model")
        return str(name)

    def _completion_prompt(self, body: dict[str, Any]) -> list[int]:
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        if isinstance(prompt, str):
            special = body.get("add_special_tokens", True) is not False
            return self._service.text.encode(prompt, add_special_tokens=special)
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], str | list):
            return _ids(prompt)
        raise bad_request(
            "prompt: a string or a list of token ids is needed (several prompts at once are not)", "prompt"
        )

    def _chat_prompt(self, body: dict[str, Any], messages: list[Any]) -> list[int]:
        plain = [_plain_message(message) for message in messages]
        opened = body.get("add_generation_prompt", True) is not False
        try:
            text = self._service.text.chat(plain, add_generation_prompt=opened)
        except ValueError as error:
            raise bad_request(str(error), "messages") from error
        return self._service.text.encode(text, add_special_tokens=bool(body.get("add_special_tokens")))

    async def _answer(self, request: Request, how: Common, form: Form, generation: Generation) -> Response:
        if how.stream:
            return StreamingResponse(_events(how, form, generation), media_type="text/event-stream")
        answer = asyncio.ensure_future(generation.whole())
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return JSONResponse(form.whole(answer.result()))
            return Response(status_code=499)
        finally:
            answer.cancel()
            gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(how: Common, form: Form, generation: Generation) -> AsyncIterator[str]:
    """Yield the server-sent events of one answer."""
    generated = 0
    head = form.head(form.chunk_object)
    try:
        opening = form.opening()
        if opening is not None:
            yield _event(head | {"choices": [opening]})
        async with contextlib.aclosing(generation.pieces()) as pieces:
            async for piece in pieces:
                generated += piece.token is not None
                if piece.text or piece.finish_reason is not None or piece.logprobs is not None:
                    usage = {"usage": form.usage(generated)} if how.continuous_usage else {}
                    yield _event(head | {"choices": [form.chunk(piece)]} | usage)
        if how.include_usage:
            yield _event(head | {"choices": [], "usage": form.usage(generated)})
    except ApiError as error:
        yield _event(error.body())
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _ids(tokens: Any) -> list[int]:
    if not isinstance(tokens, list) or not all(isinstance(t, int) and not isinstance(t, bool) for t in tokens):
        raise bad_request("a list of token ids is needed")
    return tokens


def _plain_message(message: Any) -> dict[str, Any]:
    """Return a message whose content is a text, joining the text parts of a list."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request("messages: each needs a role", "messages")
    content = message.get("content") or ""
    if isinstance(content, list):
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
            raise bad_request("messages: only parts of type text are understood", "messages")
        content = "".join(str(part.get("text", "")) for part in content)
    return message | {"content": content}
