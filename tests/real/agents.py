"""Three agents run a whole streamed tool loop on a candidate that speaks one other API alone, and can't tell.

An Anthropic agent (the official client's tool runner) and an OpenAI Responses agent (the official client's stream) on a
candidate of OpenAI chat, and an OpenAI chat agent (the official client's stream) on one of Anthropic messages; each three
times through `serve` with answers held: on the baseline, on the candidate, and on a candidate whose second answer
calls a tool that nobody offered. Proves: the same tools are called with the same arguments, the same text comes, the
events come in the same order, each of them parsed by the official client; the model is the one that was asked for; in the
third run the baseline gives the second answer alone; and the candidate was asked on its own path and no other.
"""

import json
import os
import pathlib
import tempfile

import anthropic
import openai
from stage import Fake, Handler, Understudy, expect, get, proved, serve_on_free_ports

MODEL = {"anthropic": "claude-sonnet-4-5", "responses": "gpt-5", "chat": "gpt-4.1"}
SPOKEN = {"anthropic": "openai_chat", "responses": "openai_chat", "chat": "anthropic_messages"}
PROMPT = "How warm is it in Zürich, and in Genève?"
# What the model does in each turn, whoever it is: some text, and tools with their arguments.
TURNS = [
    ("I'll look – ☂ first.", [("get_weather", {"city": "Zürich", "days": 3})]),
    ("", [("get_weather", {"city": "Genève", "days": 1}), ("to_fahrenheit", {"celsius": 21.5})]),
    ("It is 21.5 °C in Zürich and 19 °C in Genève.", []),
]
RESULTS = {"get_weather": "21.5 °C, \"clear\"", "to_fahrenheit": "70.7"}
SCHEMAS = {
    "get_weather": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                    "required": ["city", "days"], "additionalProperties": False},
    "to_fahrenheit": {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"],
                      "additionalProperties": False},
}


class Models(Handler):
    """The baseline, which speaks Anthropic messages, OpenAI responses and chat, and the candidates of two of these."""

    def do_POST(self):
        body = json.loads(self.body())
        path = self.path.split("?")[0]
        try:
            if path == "/candidate/v1/chat/completions":
                turn, events = chat_events(body, self.server.faulty_turn)
                self.server.served.append(("small", turn))
            elif path == "/candidate/v1/messages":
                check_form(body, self.headers)
                turn, events = messages_events(body, self.server.faulty_turn)
                self.server.served.append(("small", turn))
            elif path == "/v1/chat/completions":
                turn, events = chat_events(body)
                self.server.served.append(("big", turn))
            elif path == "/v1/messages":
                turn, events = messages_events(body)
                self.server.served.append(("big", turn))
            elif path == "/v1/responses":
                turn, events = responses_events(body)
                self.server.served.append(("big", turn))
            else:
                raise ValueError(f"no such path: {self.path}")
            expect_stream = body.get("stream") is True
            if not expect_stream:
                raise ValueError("not asked for as a stream")
        except Exception as error:  # told by main, and an error for the client
            self.server.faults.append(f"{self.path}: {type(error).__name__} {error}: {body}")
            return self.whole(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        self.stream(events)


def same_calls(turn, called):
    """The tools that a history says were called in a turn are those that were."""
    if called != [(name, arguments) for name, arguments in TURNS[turn][1]]:
        raise ValueError(f"turn {turn} in the history calls {called}")


def pair_up(open_calls, answered):
    """Each call is answered once, by its id, with its result."""
    if sorted(open_calls) != sorted(answered):
        raise ValueError(f"calls {open_calls} are answered by {answered}")


NO_TURN = "of a baseline"


def chat_events(body, faulty_turn=NO_TURN):
    """A baseline, strict with ids; or a candidate, which checks its history as small servers do. Says its next turn."""
    is_baseline = faulty_turn == NO_TURN
    if [tool["function"]["name"] for tool in body["tools"]] != list(SCHEMAS):
        raise ValueError("the tools are not those offered")
    turn, calls, seen = 0, [], set()
    for message in body["messages"]:
        if message["role"] == "assistant":
            calls = [(call["id"], call["function"]) for call in message.get("tool_calls") or []]
            same_calls(turn, [(function["name"], json.loads(function["arguments"])) for _, function in calls])
            ids = {id for id, _ in calls}
            if is_baseline and (len(ids) != len(calls) or seen & ids or any(len(id) > 40 for id in ids)):
                raise ValueError(f"ids {ids} after {seen}")
            seen |= ids
            turn += 1
        elif message["role"] == "tool":
            wanted = dict(calls)[message["tool_call_id"]]["name"]
            said = message["content"]
            said = said if isinstance(said, str) else "".join(part["text"] for part in said)
            if said != RESULTS[wanted]:
                raise ValueError(f"{wanted} is said to have returned {message['content']!r}")
    if body["messages"][-1]["role"] == "assistant":
        raise ValueError("the last word is the model's own")
    text, tools = TURNS[turn]
    if turn == faulty_turn:
        text, tools = "never to be seen", [("launch_rocket", {})]

    def event(delta, finish=None, **rest):
        chunk = {"id": f"chatcmpl-{turn}", "object": "chat.completion.chunk", "created": 1763700000, "model": body["model"],
                 "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **rest}
        return f"data: {json.dumps(chunk)}\n\n"

    events = [event({"role": "assistant", "content": ""})]
    if not is_baseline:
        events.append(event({"reasoning_content": "never to be seen"}))
    events += [event({"content": text[at:at + 4]}) for at in range(0, len(text), 4)]
    for index, (name, arguments) in enumerate(tools):
        # Small servers count from 0 in each answer.
        id = f"call_{turn}{index}" if is_baseline else f"call_{index}"
        events.append(event({"tool_calls": [{"index": index, "id": id, "type": "function",
                                             "function": {"name": name, "arguments": ""}}]}))
        arguments = json.dumps(arguments)
        events += [event({"tool_calls": [{"index": index, "function": {"arguments": arguments[at:at + 5]}}]})
                   for at in range(0, len(arguments), 5)]
    events.append(event({}, "tool_calls" if tools else "stop"))
    events.append(event({}, choices=[], usage={"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}))
    return turn, [*events, "data: [DONE]\n\n"]


def sse(event):
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def check_form(body, headers):
    """What the Anthropic API asks of any request."""
    if headers["anthropic-version"] != "2023-06-01" or headers["x-api-key"] != CANDIDATE_KEY or headers["authorization"]:
        raise ValueError(f"headers {dict(headers)}")
    roles = [message["role"] for message in body["messages"]]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"] or body["max_tokens"] < 1:
        raise ValueError(f"roles {roles}")
    if [tool["name"] for tool in body["tools"]] != list(SCHEMAS) or body["system"] != "You tell the weather.":
        raise ValueError("not what was asked")


def messages_events(body, faulty_turn=None):
    """Anthropic: as strict as the real one with ids and pairs, and says its next turn."""
    turn, open_calls, seen = 0, [], set()
    for message in body["messages"]:
        content = message["content"] if isinstance(message["content"], list) else [{"type": "text", "text": message["content"]}]
        if message["role"] == "assistant":
            uses = [block for block in content if block["type"] == "tool_use"]
            same_calls(turn, [(use["name"], use["input"]) for use in uses])
            open_calls = [use["id"] for use in uses]
            if seen & set(open_calls) or not all(id.replace("_", "").replace("-", "").isalnum() for id in open_calls):
                raise ValueError(f"ids {open_calls} after {seen}")
            seen |= set(open_calls)
            if any(block["type"] not in ("text", "tool_use") for block in content):
                raise ValueError("a block that was not issued here")
            turn += 1
        else:
            pair_up(open_calls, [block["tool_use_id"] for block in content if block["type"] == "tool_result"])
            open_calls = []
    text, tools = ("never to be seen", [("launch_rocket", {})]) if turn == faulty_turn else TURNS[turn]
    usage = {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    events = [{"type": "message_start", "message": {
        "id": f"msg_{turn}", "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage}}]
    blocks = [({"type": "text", "text": ""}, {"type": "text_delta", "text": text})] if text else []
    blocks += [({"type": "tool_use", "id": f"toolu_{turn}{at}", "name": name, "input": {}},
                {"type": "input_json_delta", "partial_json": json.dumps(arguments)}) for at, (name, arguments) in enumerate(tools)]
    for index, (start, delta) in enumerate(blocks):
        events += [{"type": "content_block_start", "index": index, "content_block": start},
                   {"type": "content_block_delta", "index": index, "delta": delta},
                   {"type": "content_block_stop", "index": index}]
    events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 7}}, {"type": "message_stop"}]
    return turn, map(sse, events)


def responses_events(body):
    """The OpenAI baseline: its history must pair up, and it says its next turn."""
    items = body["input"] if isinstance(body["input"], list) else []
    calls = [item for item in items if item.get("type") == "function_call"]
    pair_up([call["call_id"] for call in calls], [item["call_id"] for item in items if item.get("type") == "function_call_output"])
    if len({call["call_id"] for call in calls}) != len(calls):
        raise ValueError("two calls of one id")
    if any(item.get("type") == "reasoning" for item in items):
        raise ValueError("reasoning that was not issued here")
    turn = {0: 0, 1: 1, 3: 2}[len(calls)]
    same_calls(0, [(call["name"], json.loads(call["arguments"])) for call in calls[:1]] or TURNS[0][1])
    text, tools = TURNS[turn]
    response = {"id": f"resp_{turn}", "object": "response", "created_at": 1763700000, "status": "in_progress", "model": body["model"],
                "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": body["tools"], "error": None,
                "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0}
    events = [{"type": "response.created", "response": response}, {"type": "response.in_progress", "response": response}]
    output = []
    if text:
        id, part = f"msg_{turn}", {"type": "output_text", "text": text, "annotations": []}
        item = {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        at = {"item_id": id, "output_index": 0, "content_index": 0}
        events += [
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
            {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
            {"type": "response.output_text.delta", **at, "delta": text, "logprobs": []},
            {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **at, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item}]
        output.append(item)
    for number, (name, arguments) in enumerate(tools):
        id, arguments, index = f"fc_{turn}{number}", json.dumps(arguments), len(output)
        item = {"id": id, "type": "function_call", "call_id": f"call_{turn}{number}", "name": name, "arguments": arguments,
                "status": "completed"}
        events += [
            {"type": "response.output_item.added", "output_index": index, "item": {**item, "arguments": "", "status": "in_progress"}},
            {"type": "response.function_call_arguments.delta", "item_id": id, "output_index": index, "delta": arguments},
            {"type": "response.function_call_arguments.done", "item_id": id, "output_index": index, "name": name, "arguments": arguments},
            {"type": "response.output_item.done", "output_index": index, "item": item}]
        output.append(item)
    usage = {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 7,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 18}
    events.append({"type": "response.completed", "response": {**response, "status": "completed", "output": output, "usage": usage}})
    return turn, [sse({**event, "sequence_number": number}) for number, event in enumerate(events)]


def without_repeats(kinds):
    """Kinds of events in their order; how many pieces a text comes in says nothing."""
    return [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]


def run_anthropic(base, conversation):
    """The tool runner of the official client: what it saw, and which tools it ran."""
    client = anthropic.Anthropic(base_url=base, api_key="sk-ant-1", max_retries=0,
                                 default_headers={"x-understudy-conversation": conversation})
    ran = []

    @anthropic.beta_tool(input_schema=SCHEMAS["get_weather"])
    def get_weather(city, days):
        """The weather."""
        ran.append(("get_weather", {"city": city, "days": days}))
        return RESULTS["get_weather"]

    @anthropic.beta_tool(input_schema=SCHEMAS["to_fahrenheit"])
    def to_fahrenheit(celsius):
        """Degrees."""
        ran.append(("to_fahrenheit", {"celsius": celsius}))
        return RESULTS["to_fahrenheit"]

    runner = client.beta.messages.tool_runner(
        model=MODEL["anthropic"], max_tokens=500, system="You tell the weather.", tools=[get_weather, to_fahrenheit],
        messages=[{"role": "user", "content": PROMPT}], stream=True,
        thread=False)  # with a thread the history lies at the provider, and such calls are not canaried
    turns = []
    for stream in runner:
        kinds = [event.type for event in stream if event.type not in ("text", "input_json", "ping")]
        message = stream.get_final_message()
        expect(message.model == MODEL["anthropic"], f"the model is {message.model}")
        expect(message.usage.output_tokens == 7, f"usage is {message.usage}")
        text = "".join(block.text for block in message.content if block.type == "text")
        turns.append((without_repeats(kinds), text, message.stop_reason))
    return turns, ran


def run_responses(base, conversation):
    """A loop over the official client's streams: what it saw, and which tools it ran."""
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-1", max_retries=0,
                           default_headers={"x-understudy-conversation": conversation})
    tools = [{"type": "function", "name": name, "description": "…", "parameters": schema, "strict": True}
             for name, schema in SCHEMAS.items()]
    history, turns, ran = [{"role": "user", "content": PROMPT}], [], []
    while True:
        with client.responses.stream(model=MODEL["responses"], input=history, tools=tools, store=False,
                                     instructions="You tell the weather.") as stream:
            kinds = [event.type for event in stream]
            response = stream.get_final_response()
        expect(response.model == MODEL["responses"], f"the model is {response.model}")
        expect(response.usage.output_tokens == 7, f"usage is {response.usage}")
        turns.append((without_repeats(kinds), response.output_text, response.status))
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return turns, ran
        for item in response.output:
            keep = {"message": ("type", "id", "role", "status", "content"), "function_call": ("type", "id", "call_id", "name", "arguments", "status")}
            dumped = item.model_dump(exclude_none=True, warnings=False)
            history.append({key: dumped[key] for key in keep[item.type] if key in dumped})
        for call in calls:
            ran.append((call.name, json.loads(call.arguments)))
            history.append({"type": "function_call_output", "call_id": call.call_id, "output": RESULTS[call.name]})
        expect(len(turns) <= len(TURNS), "the loop has no end")


def run_chat(base, conversation):
    """A loop over the official client's streams of chat: what it saw, and which tools it ran."""
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-1", max_retries=0,
                           default_headers={"x-understudy-conversation": conversation})
    tools = [{"type": "function", "function": {"name": name, "description": "…", "parameters": schema, "strict": True}}
             for name, schema in SCHEMAS.items()]
    history = [{"role": "system", "content": "You tell the weather."}, {"role": "user", "content": PROMPT}]
    turns, ran = [], []
    while True:
        with client.chat.completions.stream(model=MODEL["chat"], messages=history, tools=tools,
                                            stream_options={"include_usage": True}) as stream:
            kinds = [event.type for event in stream if event.type != "chunk"]
            completion = stream.get_final_completion()
        choice = completion.choices[0]
        expect(completion.model == MODEL["chat"], f"the model is {completion.model}")
        expect((completion.usage.prompt_tokens, completion.usage.completion_tokens) == (11, 7), f"usage is {completion.usage}")
        turns.append((without_repeats(kinds), choice.message.content or "", choice.finish_reason))
        if not choice.message.tool_calls:
            return turns, ran
        history.append({key: value for key, value in choice.message.model_dump(exclude_none=True).items() if key != "parsed"})
        for call in history[-1]["tool_calls"]:
            call["function"].pop("parsed_arguments", None)
            call.pop("index", None)
        for call in choice.message.tool_calls:
            ran.append((call.function.name, json.loads(call.function.arguments)))
            history.append({"role": "tool", "tool_call_id": call.id, "content": RESULTS[call.function.name]})
        expect(len(turns) <= len(TURNS), "the loop has no end")


AGENTS = {"anthropic": run_anthropic, "responses": run_responses, "chat": run_chat}
CANDIDATE_KEY = "sk-ant-of-the-candidate"
CONFIG = """
default_upstream: big
data: {data}
upstreams:
  big: {{ url: {url} }}
  small: {{ url: {url}/candidate, api: {spoken}, model: small-1, key_env: CANDIDATE_KEY, trusted: true }}
routes:
  - name: canary
    split: {{ big: {big}, small: {small} }}
    hold: {{ for: 5s, bytes: 256KiB }}
"""


def run(fake, name, small, faulty_turn=None):
    """One agent's whole loop, and who served its turns; small = the candidate's weight, 0 or 100."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "u.yaml")
        config.write_text(CONFIG.format(data=f"{folder}/data", url=fake.url, big=100 - small, small=small, spoken=SPOKEN[name]))
        os.environ["CANDIDATE_KEY"] = CANDIDATE_KEY
        with Understudy("serve", "--config", config, *serve_on_free_ports()) as understudy:
            # The baseline accepts the client first, in a conversation of its own.
            AGENTS[name](understudy.listen, "introduction")
            fake.served, fake.faults, fake.faulty_turn = [], [], faulty_turn
            seen = AGENTS[name](understudy.listen, "the one that counts")
            metrics = get(understudy.metrics)
            understudy.stop()
        fallbacks = [line for line in metrics.splitlines() if line.startswith("understudy_fallbacks_total{")]
    expect(not fake.faults, "\n".join(fake.faults))
    return seen, fake.served, fallbacks


def main():
    fake = Fake(Models, faulty_turn=None, served=[], faults=[])
    for name in AGENTS:
        direct, served, _ = run(fake, name, 0)
        expect(served == [("big", turn) for turn in range(3)], f"{name}: {served}")
        expect(direct[1] == [call for _, calls in TURNS for call in calls], f"{name} ran {direct[1]}")
        expect([text for _, text, _ in direct[0]] == [text for text, _ in TURNS], f"{name} saw {direct[0]}")

        seen, served, fallbacks = run(fake, name, 100)
        expect(served == [("small", turn) for turn in range(3)] and not fallbacks, f"{name}: {served} {fallbacks}")
        expect(seen == direct, f"{name} can tell:\n{seen}\ninstead of\n{direct}")

        seen, served, fallbacks = run(fake, name, 100, faulty_turn=1)
        expect(served == [("small", 0), ("small", 1), ("big", 1), ("small", 2)], f"{name}: {served}")
        expect(seen == direct, f"{name} can tell that one answer fell back:\n{seen}\ninstead of\n{direct}")
        expect(len(fallbacks) == 1 and 'reason="invalid_output"' in fallbacks[0], f"{name}: {fallbacks}")
        proved(f"the {name} agent ran its tool loop on a candidate of {SPOKEN[name]}, held, as on its own model, and past a bad answer")


main()
