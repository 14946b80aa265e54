"""The official OpenAI and Anthropic clients, told of understudy by one environment variable each.

Proves: a streamed completion with a tool call is assembled by the SDK to exactly what the upstream sent, both calls
are in the Parquet after SIGTERM, and neither credential is in any file.
"""

import json
import os
import pathlib
import tempfile

import anthropic
import openai
import pyarrow.dataset
from stage import (ARGUMENTS, INPUT_TOKENS, OUTPUT_TOKENS, TEXT, TOOL, Understudy, Upstream, expect, files_with, proved,
                   serve_on_free_ports)

OPENAI_KEY, ANTHROPIC_KEY = "sk-real-canary-41c7a9", "sk-ant-real-canary-9b02de"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
QUESTION = "What is the weather in Zürich over the next three days?"


def ask_openai():
    """The assembled completion of one streamed call, as plain values."""
    tool = {"type": "function", "function": {"name": TOOL, "parameters": PARAMETERS}}
    with openai.OpenAI(max_retries=0).chat.completions.stream(
        model="gpt-4o-mini", messages=[{"role": "user", "content": QUESTION}], tools=[tool],
        stream_options={"include_usage": True},
    ) as stream:
        return stream.get_final_completion().model_dump()


def ask_anthropic():
    """The assembled message of one streamed call, as plain values."""
    tool = {"name": TOOL, "description": "Weather of a city", "input_schema": PARAMETERS}
    with anthropic.Anthropic(max_retries=0).messages.stream(
        model="claude-sonnet-5-5", max_tokens=256, messages=[{"role": "user", "content": QUESTION}], tools=[tool],
    ) as stream:
        return stream.get_final_message().model_dump()


def ask_both(base):
    """Both calls, with nothing but the environment to tell the clients where to go."""
    os.environ.update(OPENAI_BASE_URL=f"{base}/v1", OPENAI_API_KEY=OPENAI_KEY,
                      ANTHROPIC_BASE_URL=base, ANTHROPIC_API_KEY=ANTHROPIC_KEY)
    return ask_openai(), ask_anthropic()


def check_answers(completion, message):
    """The assembled answers say what the upstream's script says."""
    choice = completion["choices"][0]
    call = choice["message"]["tool_calls"][0]["function"]
    expect(choice["message"]["content"] == "".join(TEXT), f"OpenAI text is {choice['message']['content']!r}")
    expect((call["name"], json.loads(call["arguments"])) == (TOOL, ARGUMENTS), f"OpenAI tool call is {call}")
    expect(completion["usage"]["completion_tokens"] == OUTPUT_TOKENS, "OpenAI usage was lost")
    text, tool = message["content"]
    expect(text["text"] == "".join(TEXT), f"Anthropic text is {text['text']!r}")
    expect((tool["name"], tool["input"]) == (TOOL, ARGUMENTS), f"Anthropic tool call is {tool}")
    expect(message["stop_reason"] == "tool_use" and message["usage"]["output_tokens"] == OUTPUT_TOKENS, "Anthropic end was lost")


def check_requests(direct, proxied):
    """What reached the upstream through understudy is what reaches it directly."""
    for (path, headers, body), (path_direct, headers_direct, body_direct) in zip(proxied, direct, strict=True):
        expect(path == path_direct, f"path became {path}")
        expect(body == body_direct, f"request body of {path} was changed")
        lowered = {name.lower(): value for name, value in headers.items()}
        expected = {name.lower(): value for name, value in headers_direct.items() if name.lower() not in ("host", "connection")}
        changed = {name for name, value in expected.items() if lowered.get(name) != value}
        expect(not changed, f"headers of {path} changed or lost: {sorted(changed)}")


def check_rows(folder):
    """Two whole calls are in the Parquet."""
    rows = pyarrow.dataset.dataset(folder / "calls", format="parquet", partitioning=None).to_table().to_pylist()
    expect(len(rows) == 2, f"{len(rows)} rows instead of 2")
    by_api = {row["api"]: row for row in rows}
    expect(set(by_api) == {"openai_chat", "anthropic_messages"}, f"apis are {sorted(by_api)}")
    for api, row in by_api.items():
        expect(row["outcome"] == "ok" and row["status"] == 200 and row["streamed"], f"{api}: outcome {row['outcome']}")
        expect([call["name"] for call in row["tool_calls"]] == [TOOL], f"{api}: tool calls {row['tool_calls']}")
        expect(set(json.loads(row["tool_calls"][0]["arguments"])) == set(ARGUMENTS), f"{api}: arguments {row['tool_calls']}")
        tokens = (row["input_tokens"], row["output_tokens"])
        expect(tokens == (INPUT_TOKENS, OUTPUT_TOKENS), f"{api}: tokens {tokens}")
        expect(row["tools_offered"] == [TOOL], f"{api}: tools offered {row['tools_offered']}")


def main():
    upstream = Upstream()
    answers_direct = ask_both(upstream.url)
    asked_direct = upstream.asked[:]
    check_answers(*answers_direct)
    upstream.asked.clear()
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder, "data")
        with Understudy("serve", "--upstream", upstream.url, "--data", data, *serve_on_free_ports()) as understudy:
            answers = ask_both(understudy.listen)
            check_answers(*answers)
            expect(answers == answers_direct, "an SDK assembled something else through understudy than directly")
            proved("openai and anthropic clients assemble the same streamed text, tool call and usage as directly")
            check_requests(asked_direct, upstream.asked)
            proved("request bodies are byte-equal at the upstream, and every client header arrived")
            understudy.stop()
            proved("SIGTERM drains and exits 0")
            logs = "\n".join(understudy.lines)
        check_rows(data)
        proved("both calls are in the Parquet, with tool call, tokens and outcome")
        for key in (OPENAI_KEY, ANTHROPIC_KEY):
            expect(key not in logs, "a credential is in the log")
            expect(not files_with(data, key.encode()), "a credential is in a file")
        proved("no credential is in any file or log line")


main()
