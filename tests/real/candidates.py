"""What candidates of Bedrock Converse and of Cohere are asked, held against the official clients of these APIs.

Every recorded call of an API that is translated is sent with a candidate of either pinned. Proves, for each call that
reaches it: botocore's validator takes the request for the operation that its path names, and Cohere's client knows every
message, tool and format of it, no key of either being unknown. The candidate then answers 503, and the baseline's answer
comes back. What has no translation stays with the baseline.
"""

import base64
import collections
import json
import pathlib
import tempfile
import typing
import urllib.parse

import botocore
import botocore.session
import botocore.validate
import cohere
import pydantic
from stage import Handler, Understudy, Upstream, expect, post, proved, serve_on_free_ports

RECORDINGS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "recordings"
# Paths that hold one of these are chats.
CHATS = ("/chat/completions", "/responses", "/messages", ":generateContent", ":streamGenerateContent", "/api/chat", "/converse",
         "/v2/chat")
OPERATIONS = {"converse": "Converse", "converse-stream": "ConverseStream"}
COHERE = {"messages": typing.List[cohere.ChatMessageV2], "tools": typing.List[cohere.ToolV2],
          "response_format": cohere.ResponseFormatV2}
COHERE_NUMBERS = {"max_tokens", "temperature", "p", "k", "seed", "frequency_penalty", "presence_penalty"}


class Both(Handler):
    """The baseline, which answers all alike, and the candidates, which remember what they were asked."""

    def do_POST(self):
        body = self.body()
        is_candidate = self.path.startswith("/candidate/")
        if is_candidate:
            self.server.asked.append((self.path.removeprefix("/candidate"), json.loads(body)))
        self.whole(503 if is_candidate else 200, {"from": "the baseline"})


def with_bytes(value):
    """The value as boto3 takes it: bytes where JSON has base64."""
    if isinstance(value, dict):
        return {key: base64.b64decode(inner, validate=True) if key == "bytes" else with_bytes(inner) for key, inner in value.items()}
    return [with_bytes(inner) for inner in value] if isinstance(value, list) else value


def unknown_keys(value, shape, at=""):
    """Paths of keys that botocore's model does not have."""
    if shape.type_name == "list":
        return [path for place, inner in enumerate(value) for path in unknown_keys(inner, shape.member, f"{at}[{place}]")]
    if shape.type_name != "structure" or getattr(shape, "is_document_type", False):
        return []
    unknown = [f"{at}.{key}" for key in value if key not in shape.members]
    known = [(key, inner) for key, inner in value.items() if key in shape.members]
    return unknown + [path for key, inner in known for path in unknown_keys(inner, shape.members[key], f"{at}.{key}")]


def check_converse(service, path, body):
    _, _, model, verb = path.split("/")
    shape = service.operation_model(OPERATIONS[verb]).input_shape
    asked = {**with_bytes(body), "modelId": urllib.parse.unquote(model)}
    report = botocore.validate.ParamValidator().validate(asked, shape)
    expect(not report.has_errors(), f"{report.generate_report()}: {body}")
    expect(not unknown_keys(asked, shape), f"{unknown_keys(asked, shape)}: {body}")


def check_cohere(path, body):
    expect(path == "/v2/chat", path)
    rest = set(body) - set(COHERE) - COHERE_NUMBERS - {"model", "stream", "stop_sequences", "tool_choice"}
    expect(not rest, f"unknown keys {rest}")
    expect(all(isinstance(body[key], (int, float)) for key in COHERE_NUMBERS & set(body)), f"numbers: {body}")
    expect(body.get("tool_choice", "NONE") in ("REQUIRED", "NONE"), f"tool_choice: {body}")
    for key in COHERE.keys() & body.keys():
        read = pydantic.TypeAdapter(COHERE[key]).validate_python(body[key])
        for given, known in zip(*([body[key]], [read]) if isinstance(read, pydantic.BaseModel) else (body[key], read)):
            left = set(given) - set(type(known).model_fields)
            expect(not left, f"{key}: {left} of {given}")


def calls():
    """Recorded calls of the APIs that are translated: path and body."""
    for file in sorted(RECORDINGS.glob("*/*.json")):
        if file.name.endswith(".expect.json"):
            continue
        request = json.loads(file.read_text())["request"]
        if any(chat in request["path"] for chat in CHATS) and request.get("body_text"):
            body = json.loads(request["body_text"])
            # As if the agent had asked the provider to keep nothing.
            yield request["path"], {**body, "store": False} if "/responses" in request["path"] else body


def main():
    if not RECORDINGS.is_dir():
        return print("no recordings here: skipped")
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    fake, folder = Upstream(Both), pathlib.Path(tempfile.mkdtemp())
    config = folder / "understudy.yaml"
    names = {"bedrock": "bedrock_converse", "cohere": "cohere_chat"}
    config.write_text("\n".join([
        "default_upstream: llm", "allow_pins: true", "upstreams:", f"  llm: {{ url: {fake.url} }}",
        *(f"  {name}: {{ url: {fake.url}/candidate, api: {api}, model: 'small-1:0', trusted: true }}" for name, api in names.items()),
    ]))
    counts = collections.Counter()
    with Understudy("serve", "--config", config, "--data", folder / "data", *serve_on_free_ports()) as understudy:
        for path, body in calls():
            for name in names:
                before = len(fake.asked)
                headers = {"authorization": "Bearer k", "x-understudy-route": name}
                status, answer = post(understudy.listen + path, body, headers)
                expect((status, answer) == (200, b'{"from": "the baseline"}'), f"{path}: {status} {answer[:200]}")
                counts[name, "asked" if len(fake.asked) > before else "not"] += 1
                for asked_at, asked in fake.asked[before:]:
                    if name == "bedrock":
                        check_converse(service, asked_at, asked)
                    else:
                        check_cohere(asked_at, asked)
        understudy.stop()
    for name, known_by in [("bedrock", f"botocore {botocore.__version__}"), ("cohere", f"cohere {cohere.__version__}")]:
        asked, kept = counts[name, "asked"], counts[name, "not"]
        expect(asked > 3 * kept, f"{name}: {asked} asked, {kept} not")
        proved(f"{asked} recorded calls are asked of {name} in requests that {known_by} knows; {kept} stay with their baseline")


if __name__ == "__main__":
    main()
