"""What every real-component check shares: a fake upstream, the started program, free ports, waiting.

Never imported by the program or by the Rust tests. Everything listens on loopback and is ended with the check.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

START_SECONDS = 30
DRAIN_SECONDS = 60

# One answer, told by both APIs: some text, then one tool call whose arguments arrive in awkward pieces.
TEXT = ["Let me ", "look that up", " – naïve ☂ ", "text."]
TOOL = "get_weather"
ARGUMENTS = {"city": "Zürich", "unit": "celsius", "days": 3}
ARGUMENT_PIECES = ['{"ci', 'ty": "Zü', 'rich", "unit"', ': "celsius", ', '"days": 3}']
INPUT_TOKENS, OUTPUT_TOKENS = 57, 23


def fail(message):
    """End the check with a fault, in words."""
    print(f"FAULT: {message}", file=sys.stderr)
    sys.exit(1)


def expect(condition, message):
    """Fail unless the condition holds."""
    if not condition:
        fail(message)


def proved(message):
    """Say one thing that this check has shown."""
    print(f"  proved: {message}", flush=True)


def binary():
    """Path of the program under test, from UNDERSTUDY_BIN."""
    path = os.environ.get("UNDERSTUDY_BIN", "")
    expect(path and os.access(path, os.X_OK), "UNDERSTUDY_BIN must name the understudy binary")
    return path


def free_port():
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=START_SECONDS):
    """Poll until the condition returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            value = condition()
            if value:
                return value
        time.sleep(0.05)
    return fail(f"waited {seconds} s in vain for {what}")


def get(url, seconds=10):
    """Body of a GET, as text."""
    with urllib.request.urlopen(url, timeout=seconds) as response:
        return response.read().decode()


def post(url, body, headers=None, seconds=10):
    """Status and body of a POST of JSON; an error status is an answer, not an exception."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def openai_chunks(model):
    """The data of each event of an OpenAI chat stream that says TEXT, then calls TOOL."""
    head = {"id": "chatcmpl-real1", "object": "chat.completion.chunk", "created": 1763700000, "model": model,
            "service_tier": "default", "system_fingerprint": "fp_real"}

    def chunk(delta, finish=None):
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    def call(function, **extra):
        return chunk({"tool_calls": [{"index": 0, **extra, "function": function}]})

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    yield from (chunk({"content": piece}) for piece in TEXT)
    yield call({"name": TOOL, "arguments": ""}, id="call_real1", type="function")
    yield from (call({"arguments": piece}) for piece in ARGUMENT_PIECES)
    yield chunk({}, "tool_calls")
    yield {**head, "choices": [], "usage": openai_usage()}


def openai_usage():
    """Usage of the one answer in OpenAI's words."""
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS}


def openai_whole(model):
    """The one answer, not streamed, in OpenAI's words."""
    call = {"id": "call_real1", "type": "function", "function": {"name": TOOL, "arguments": "".join(ARGUMENT_PIECES)}}
    message = {"role": "assistant", "content": "".join(TEXT), "refusal": None, "tool_calls": [call]}
    return {"id": "chatcmpl-real1", "object": "chat.completion", "created": 1763700000, "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}],
            "usage": openai_usage()}


def anthropic_events(model):
    """The events of an Anthropic messages stream with the one answer."""
    usage = {"input_tokens": INPUT_TOKENS, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    yield {"type": "message_start", "message": {"id": "msg_real1", "type": "message", "role": "assistant", "model": model,
           "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for piece in TEXT:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "content_block_start", "index": 1,
           "content_block": {"type": "tool_use", "id": "toolu_real1", "name": TOOL, "input": {}}}
    for piece in ["", *ARGUMENT_PIECES]:
        yield {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}
    yield {"type": "content_block_stop", "index": 1}
    yield {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
           "usage": {"output_tokens": OUTPUT_TOKENS}}
    yield {"type": "message_stop"}


class Fake(ThreadingHTTPServer):
    """A fake server on a free port, whose connections are played by a kind of `Handler`; `state` is what both share."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler, **state):
        super().__init__(("127.0.0.1", 0), handler)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        vars(self).update(state)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        stream, address = super().get_request()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream, address

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hangs up is part of the traffic
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection to a fake server, with answers whole and streamed."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def body(self):
        """The bytes of the request's body."""
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def whole(self, status, body):
        """Answers with JSON."""
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, pieces, content_type="text/event-stream; charset=utf-8", pause=0):
        """Answers in pieces, texts or bytes, a chunk each, with seconds between them."""
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            data = piece.encode() if isinstance(piece, str) else piece
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            if pause:
                time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")


class Answer(Handler):
    """OpenAI chat and Anthropic messages, with the one answer.

    A model called `error-500` or `error-429` answers with that status.
    """

    def do_POST(self):
        raw = self.body()
        self.server.asked.append((self.path, dict(self.headers.items()), raw))
        request = json.loads(raw)
        model = request.get("model", "")
        if model.startswith("error-"):
            return self.whole(int(model.removeprefix("error-")), {"error": {"message": "asked for", "type": "server_error"}})
        if self.path.endswith("/chat/completions"):
            if not request.get("stream"):
                return self.whole(200, openai_whole(model))
            events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in openai_chunks(model)]
            return self.stream([*events, "data: [DONE]\n\n"], pause=0.003)
        if self.path.endswith("/messages"):
            events = [f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in anthropic_events(model)]
            return self.stream(events, pause=0.003)
        return self.whole(404, {"error": {"message": f"no such path {self.path}"}})


class Upstream(Fake):
    """A fake LLM provider that remembers what it was asked."""

    def __init__(self, handler=Answer):
        super().__init__(handler, asked=[])


class Understudy:
    """The program, started with the given arguments; its printed addresses are `listen`, `metrics` and `admin`."""

    def __init__(self, *arguments, program=None):
        self.lines = []
        self.process = subprocess.Popen([*(program or [binary()]), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def address(self, word):
        """The address that the program printed after `<word> on `."""
        pattern = re.compile(rf"\b{word} on (https?://[^\s\"\\]+)")

        def find():
            expect(self.process.poll() is None, f"understudy ended with {self.process.poll()}:\n" + self.tail())
            return next((found[1] for found in map(pattern.search, list(self.lines)) if found), None)

        return wait_for(f"the line “{word} on …” of understudy", find)

    def __enter__(self):
        self.listen = self.address("listening")
        self.metrics = self.address("metrics")
        return self

    def __exit__(self, kind, *rest):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the session is this program's own, wrappers included
        self.process.wait()
        if kind is not None:
            print(self.tail(), file=sys.stderr)

    def tail(self):
        """The last lines that the program wrote on stderr."""
        return "\n".join(f"    understudy: {line}" for line in self.lines[-30:])

    def stop(self):
        """SIGTERM; it must drain and exit 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            fail(f"understudy didn't end within {DRAIN_SECONDS} s of SIGTERM")
        expect(code == 0, f"understudy ended with {code} after SIGTERM:\n" + self.tail())


def serve_on_free_ports():
    """The flags that make `serve` take three free ports."""
    return ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--admin", "127.0.0.1:0"]


def files_with(folder, needle):
    """Files below the folder that hold the bytes."""
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file() and needle in path.read_bytes()]
