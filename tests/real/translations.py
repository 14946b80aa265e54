"""Recorded calls of five APIs, taken over by a candidate that speaks OpenAI chat alone, as their official clients see it.

Proves, for each recorded call that OpenAI chat can express: the official client of its API parses the candidate's answer
to the same text and the same tool calls as the recorded one, streamed or not, and streams have their events in order;
for each other call: the baseline answers, and the client gets the recorded bytes.

The answers that the candidate gives are the recorded ones, said in OpenAI chat.
"""

import collections
import json
import os
import pathlib
import sys
import tempfile
import warnings

import anthropic
import cohere
import ollama
import openai
from anthropic.lib.streaming._messages import accumulate_event
from google import genai
from stage import Fake, Handler, Understudy, expect, proved, serve_on_free_ports

RECORDINGS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "recordings"
FORMATS = {
    "anthropic-messages": "anthropic", "openai-responses": "responses", "azure-responses": "responses",
    "xai-responses": "responses", "openrouter-responses": "responses", "deepseek-responses": "responses",
    "gemini-generate": "gemini", "gemini-stream": "gemini", "vertex-generate": "gemini", "vertex-stream": "gemini",
    "ollama-chat": "ollama", "cohere-chat": "cohere",
}
# Pieces that no JSON text and no character stays whole in.
PIECE = 5


# Some recorded models are old.
warnings.simplefilter("ignore", DeprecationWarning)


class Both(Handler):
    """The baseline, which answers as recorded, and the candidate, which says the same in OpenAI chat."""

    def do_POST(self):
        body = json.loads(self.body())
        if self.path.startswith("/candidate/"):
            self.server.asked = body
            text, calls = self.server.chat
            if body.get("stream"):
                self.in_pieces("text/event-stream", "".join(chat_stream(text, calls)).encode())
            else:
                self.in_pieces("application/json", json.dumps(chat_whole(text, calls)).encode())
        else:
            self.in_pieces(*self.server.recorded)

    def in_pieces(self, content_type, body):
        pieces = [body[at:at + PIECE] for at in range(0, min(len(body), 2000), PIECE)] + [body[2000:]]
        self.stream(filter(None, pieces), content_type)


def chat_calls(calls):
    return [{"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for at, (name, arguments) in enumerate(calls)]


def chat_whole(text, calls):
    """The candidate's answer, whole."""
    message = {"role": "assistant", "content": text or None, "reasoning_content": "never to be shown"}
    if calls:
        message["tool_calls"] = chat_calls(calls)
    return {"id": "chatcmpl-7", "object": "chat.completion", "created": 1763700000, "model": "small",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}


def chat_stream(text, calls):
    """The candidate's answer, streamed."""
    def event(delta, finish=None, **rest):
        chunk = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1763700000, "model": "small",
                 "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **rest}
        return f"data: {json.dumps(chunk)}\n\n"

    yield event({"role": "assistant", "content": ""})
    yield event({"reasoning_content": "never to be shown"})
    for at in range(0, len(text), 9):
        yield event({"content": text[at:at + 9]})
    for index, call in enumerate(chat_calls(calls)):
        arguments = call["function"]["arguments"]
        start = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield event({"tool_calls": [start]})
        for at in range(0, len(arguments), 6):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": arguments[at:at + 6]}}]})
    yield event({}, "tool_calls" if calls else "stop")
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    yield event({}, choices=[], usage=usage)
    yield "data: [DONE]\n\n"


class Order:
    """Checks the order of a stream's events as they come."""

    def __init__(self, name):
        self.name, self.seen = name, []

    def add(self, kind):
        self.seen.append(kind)

    def check(self, first, last):
        expect(self.seen and self.seen[0] == first and self.seen[-1] == last, f"{self.name}: events {self.seen}")


def ask_anthropic(base, headers, body, stream):
    client = anthropic.Anthropic(base_url=base, api_key="sk-ant-1", max_retries=0, default_headers=headers)
    given = {key: body[key] for key in ("model", "max_tokens", "messages")}
    answer = client.messages.create(**given, stream=stream, extra_body=body)
    if stream:
        order, snapshot, pieces = Order("anthropic"), None, {}
        for event in answer:
            if event.type != "ping":
                order.add(event.type)
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=pieces)
        order.check("message_start", "message_stop")
        answer = snapshot
    text = "".join(block.text for block in answer.content if block.type == "text")
    return text, [(block.name, block.input) for block in answer.content if block.type == "tool_use"]


def ask_responses(base, headers, body, stream):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-1", max_retries=0, default_headers=headers)
    answer = client.responses.create(model=body.get("model", "m"), input=body.get("input", ""), stream=stream, extra_body=body)
    if stream:
        order, deltas, numbers = Order("responses"), [], []
        for event in answer:
            order.add(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
            if event.type in ("response.completed", "response.incomplete"):
                final = event.response
        order.check("response.created", "response.completed")
        # Old recordings have none.
        expect(None in numbers or numbers == sorted(set(numbers)), f"responses: sequence numbers {numbers}")
        answer = final
        expect("".join(deltas) == answer.output_text, f"responses: {deltas} are not {answer.output_text!r}")
    calls = [(item.name, json.loads(item.arguments or "{}")) for item in answer.output if item.type == "function_call"]
    return answer.output_text, calls


def ask_gemini(base, headers, body, stream):
    options = genai.types.HttpOptions(base_url=base, headers=headers)
    client = genai.Client(api_key="k", http_options=options)
    config = genai.types.GenerateContentConfig(http_options=genai.types.HttpOptions(extra_body=body))
    given = {"model": "gemini-2.5-flash", "contents": "replaced", "config": config}
    chunks = list(client.models.generate_content_stream(**given)) if stream else [client.models.generate_content(**given)]
    parts = [part for chunk in chunks for candidate in (chunk.candidates or [])[:1]
             for part in (candidate.content and candidate.content.parts or [])]
    text = "".join(part.text for part in parts if part.text and not part.thought)
    return text, [(part.function_call.name, part.function_call.args or {}) for part in parts if part.function_call]


def ask_ollama(base, headers, body, stream):
    client = ollama.Client(host=base, headers={"authorization": "Bearer o", **headers})
    answer = client._request(ollama.ChatResponse, "POST", "/api/chat", json=body, stream=stream)
    chunks = list(answer) if stream else [answer]
    expect(chunks[-1].done, "ollama: the last line is not done")
    calls = [(call.function.name, dict(call.function.arguments)) for chunk in chunks for call in chunk.message.tool_calls or []]
    return "".join(chunk.message.content or "" for chunk in chunks), calls


def ask_cohere(base, headers, body, stream):
    client = cohere.ClientV2(api_key="c", base_url=base)
    options = {"additional_body_parameters": {**body, "stream": stream}, "additional_headers": headers, "max_retries": 0}
    given = {"model": body["model"], "messages": [{"role": "user", "content": "replaced"}], "request_options": options}
    if not stream:
        message = client.chat(**given).message
        text = "".join(part.text for part in message.content or [] if part.type == "text")
        calls = [(call.function.name, json.loads(call.function.arguments or "{}")) for call in message.tool_calls or []]
        return text, calls
    order, text, calls = Order("cohere"), "", []
    for event in client.chat_stream(**given):
        order.add(event.type)
        message = getattr(getattr(event, "delta", None), "message", None)
        if event.type == "content-delta":
            text += message.content.text or ""
        elif event.type == "tool-call-start":
            calls.append([message.tool_calls.function.name, message.tool_calls.function.arguments or ""])
        elif event.type == "tool-call-delta":
            calls[-1][1] += message.tool_calls.function.arguments or ""
    order.check("message-start", "message-end")
    return text, [(name, json.loads(arguments or "{}")) for name, arguments in calls]


ASK = {"anthropic": ask_anthropic, "responses": ask_responses, "gemini": ask_gemini, "ollama": ask_ollama, "cohere": ask_cohere}


def recorded_calls():
    """Every recorded call of these formats that was answered with text or tool calls."""
    for folder, client in FORMATS.items():
        for file in sorted((RECORDINGS / folder).glob("[0-9][0-9][0-9].json")):
            recorded, oracle = json.loads(file.read_text()), json.loads(file.with_suffix(".expect.json").read_text())
            request, response = recorded["request"], recorded["response"]
            whole = response["status"] == 200 and not oracle["partial"] and not oracle["error"]
            is_array = client == "gemini" and response["stream"] and "alt=sse" not in request["path"]
            if whole and not is_array and not request["path"].startswith("/v1/chat"):
                body = json.loads(request["body_text"])
                # Calls whose answers the provider stores stay with it; the same calls, not stored:
                if client == "responses":
                    body["store"] = False
                content_type = response["headers"].get("content-type", "application/json")
                yield f"{folder}/{file.stem}", client, body, response["stream"], (content_type, response["body_text"].encode())


def served_by(fake):
    """Which of the two answered the last call."""
    return "candidate" if fake.asked is not None else "baseline"


def main():
    if not RECORDINGS.is_dir():
        expect(not os.environ.get("CI"), f"the recordings are missing: {RECORDINGS}")
        print(f"SKIPPED: no recordings at {RECORDINGS}", file=sys.stderr)
        return
    fake = Fake(Both, recorded=None, chat=None, asked=None)
    tally = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "u.yaml")
        config.write_text(f"allow_pins: true\ndefault_upstream: big\ndata: {folder}/data\nupstreams:\n"
                          f"  big: {{ url: {fake.url} }}\n"
                          f"  small: {{ url: {fake.url}/candidate, api: openai_chat, model: small, trusted: true }}\n")
        with Understudy("serve", "--config", config, *serve_on_free_ports()) as understudy:
            for name, client, body, stream, recorded in recorded_calls():
                fake.recorded, fake.chat, fake.asked = recorded, None, None
                expected = ASK[client](understudy.listen, {}, body, stream)
                expect(served_by(fake) == "baseline", f"{name}: not pinned, but the candidate answered")
                if not any(expected):
                    tally[client]["nothing to compare"] += 1
                    continue
                fake.chat = expected
                found = ASK[client](understudy.listen, {"x-understudy-route": "small"}, body, stream)
                expect(found == expected, f"{name}: the client of the API reads {found} instead of {expected}")
                tally[client][served_by(fake) + (" streamed" if stream else "")] += 1
    for client, counts in tally.items():
        print(f"  {client}: {dict(counts)}")
        expect(counts["candidate"] + counts["candidate streamed"], f"no {client} call was translated")
    total = sum(counts["candidate"] + counts["candidate streamed"] for counts in tally.values())
    proved(f"{total} calls were taken over, and each official client read the same text and tool calls as recorded")


main()
