"""A real Prometheus scrapes understudy under traffic; every expression of every dashboard must return data.

Proves besides: `promtool check metrics` finds no fault, every metric that a dashboard or rule names exists, the rules
evaluate, a config is reloaded while running and a bad one is refused, and once idle the accounting adds up exactly.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import yaml
from stage import TOOL, Understudy, Upstream, expect, free_port, get, post, proved, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAFFIC_SECONDS = 20
CLIENTS = 12
VARIABLES = {"$__rate_interval": "10s", "$__interval": "1s", "$__range": "20s", "$job": ".*", "$upstream": ".*"}
# Nothing in this traffic makes them: no record is given up, and no guard trips.
NOT_EXERCISED = {"understudy_evicted_total", "understudy_guard_trips_total"}

CONFIG = """
data: {data}
default_upstream: openai
upstreams:
  openai: {{ url: {openai} }}
  slm:    {{ url: {slm}, api: openai_chat, model: tiny, trusted: true }}
  dead:   {{ url: "http://127.0.0.1:{dead}" }}
store: {{ flush: {{ after: 1s, bytes: 1MiB }} }}
routes:
  - match: {{ model: gpt-4o-mini }}
    split: {{ openai: {baseline}, slm: {canary} }}
"""

SCRAPE = """
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [%s]
scrape_configs:
  - job_name: understudy
    static_configs: [{ targets: ["%s"] }]
"""


def call(base, client, number):
    """One call of the mixed traffic; what it asks for depends on its number alone."""
    kind = number % 10
    model = {7: "error-500", 8: "error-429"}.get(kind, "gpt-4o-mini" if kind < 6 else "gpt-4o")
    path = "/dead/v1/chat/completions" if kind == 9 else "/v1/chat/completions"
    body = {"model": model, "stream": kind % 2 == 0, "messages": [
        {"role": "system", "content": "You triage tickets. Answer with one tool call."},
        {"role": "user", "content": f"Ticket {number} of jane.doe{number}@example.com, card 4111 1111 1111 1111"}]}
    if kind < 4:  # the others' answers call a tool that nobody offered: a candidate's falls back
        body["tools"] = [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object"}}}]
    if body["stream"]:
        body["stream_options"] = {"include_usage": True}
    headers = {"authorization": f"Bearer sk-client-{client}", "x-understudy-conversation": f"c-{client}-{number}"}
    if number % 25 == 0:
        headers["x-understudy-capture"] = "none"
    post(base + path, body, headers)


def refused(base):
    """A request whose head is far too large: refused, so no call."""
    address = urllib.parse.urlsplit(base)
    with socket.create_connection((address.hostname, address.port), 5) as stream:
        stream.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-large: " + b"a" * 200_000 + b"\r\n\r\n")
        stream.settimeout(5)
        try:
            stream.recv(1024)
        except OSError:
            pass  # the rest of the head was not read, so a reset may come before the answer


def run_traffic(base, seconds):
    """CLIENTS agents calling in a loop; faults of an agent are faults of the check."""
    end, faults = time.monotonic() + seconds, []

    def agent(client):
        number = client
        while time.monotonic() < end:
            try:
                call(base, client, number)
            except OSError as error:
                faults.append(f"call {number}: {error}")
            number += CLIENTS + 1
            time.sleep(0.05)

    agents = [threading.Thread(target=agent, args=(client,)) for client in range(CLIENTS)]
    for thread in agents:
        thread.start()
    return agents, faults


def samples(text):
    """Metric samples of an exposition: {name: sum over its labels}."""
    sums = {}
    for line in text.splitlines():
        found = re.match(r"([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)$", line)
        if found:
            sums[found[1]] = sums.get(found[1], 0.0) + float(found[2])
    return sums


def expressions(dashboard):
    """(title, expression) of each target, with the variables filled in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            expect("$" not in expression, f"“{panel['title']}” has an unknown variable: {expression}")
            yield panel["title"], expression


def has_data(server, expression, start, end):
    """Whether a range query returns at least one number."""
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": "1"})
    answer = json.loads(get(f"{server}/api/v1/query_range?{query}"))
    expect(answer["status"] == "success", f"{expression}: {answer}")
    return any(value != "NaN" for series in answer["data"]["result"] for _, value in series["values"])


def check_dashboards(server, start, end):
    """Every expression returns data, and every metric that is named was scraped."""
    faults, count = [], 0
    known = set(json.loads(get(f"{server}/api/v1/label/__name__/values"))["data"])
    files = sorted((ROOT / "dashboards").glob("*.json"))
    rules = yaml.safe_load((ROOT / "dashboards/rules/understudy.yaml").read_text())
    texts = [("rule", rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    for file in files:
        for title, expression in expressions(json.loads(file.read_text())):
            count += 1
            texts.append((title, expression))
            if not has_data(server, expression, start, end):
                faults.append(f"“{title}” returns no data: {expression}")
    for title, expression in texts:
        for name in set(re.findall(r"\bunderstudy[_:]\w+", expression)) - known - NOT_EXERCISED:
            faults.append(f"“{title}” names {name}, which was not scraped")
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    expect(not faults, f"{len(faults)} faults in the dashboards and rules")
    proved(f"{count} expressions of {len(files)} dashboard(s) return data from a real Prometheus")


def check_rules(server):
    """All rules evaluate without an error, and none cries wolf about accounting or reloads."""
    groups = json.loads(get(f"{server}/api/v1/rules"))["data"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        expect(rule["health"] == "ok", f"rule {rule['name']}: {rule.get('lastError')}")
        quiet = rule["name"] in ("UnderstudyConservationBroken", "UnderstudyDown", "UnderstudySpoolSlow")
        expect(not (quiet and rule.get("state") == "firing"), f"{rule['name']} fires")
    proved("all rules evaluate, and no alert of loss fires")


def accounted(metrics):
    """The two equations of the accounting, from one scrape of an idle program."""
    value = lambda name: metrics.get(name, 0.0)  # noqa: E731
    calls = value("understudy_calls_in_flight") + value("understudy_kept_total") + value("understudy_dropped_total")
    kept = value("understudy_stored_total") + value("understudy_waiting") + value("understudy_evicted_total")
    return value("understudy_calls_in_flight") == 0 and value("understudy_calls_total") == calls and value("understudy_kept_total") == kept


def reload(understudy, path, text, result):
    """Write the config; the program must say that it was applied or refused."""
    before = reloads(understudy, result)
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)  # in one step, so that no half-written file is read
    wait_for(f"a reload whose outcome is {result}", lambda: reloads(understudy, result) > before)


def reloads(understudy, failed):
    """Reloads so far that failed, or that did not."""
    counts = [(line, float(line.rsplit(" ", 1)[1])) for line in get(understudy.metrics).splitlines()
              if line.startswith("understudy_config_reloads_total{")]
    bad = re.compile(r'result="(error|failed|refused|rejected)"')
    return sum(count for line, count in counts if bool(bad.search(line)) == failed)


def drive(understudy, config_path, config, server):
    """Traffic with a good reload, a bad one and a good one in the middle of it."""
    start = time.time()
    agents, faults = run_traffic(understudy.listen, TRAFFIC_SECONDS)
    time.sleep(TRAFFIC_SECONDS / 4)
    reload(understudy, config_path, config(baseline=40, canary=60), False)
    reload(understudy, config_path, config(baseline=40, canary=60) + "routs: []\n", True)
    failed = samples(get(understudy.metrics))["understudy_config_reload_failed"]
    expect(failed == 1, "a bad config did not raise understudy_config_reload_failed")
    reload(understudy, config_path, config(baseline=50, canary=50), False)
    proved("a config is reloaded under traffic; a bad one is refused, counted, and the next good one is applied")
    refused(understudy.listen)
    for agent in agents:
        agent.join()
    expect(not faults, f"{len(faults)} calls failed at the client, the first: {faults[:1]}")
    end = time.time()
    check_dashboards(server, start, end)
    check_rules(server)


def main():
    subprocess.run(["promtool", "check", "rules", ROOT / "dashboards/rules/understudy.yaml"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["promtool", "test", "rules", ROOT / "dashboards/rules/understudy_test.yaml"], check=True, stdout=subprocess.DEVNULL)
    proved("alert rules pass promtool's check and their tests")
    openai, slm = Upstream(), Upstream()
    with tempfile.TemporaryDirectory() as folder:
        config_path = pathlib.Path(folder, "understudy.yaml")
        dead = free_port()

        def config(baseline, canary):
            return CONFIG.format(data=f"{folder}/data", openai=openai.url, slm=slm.url, dead=dead, baseline=baseline, canary=canary)

        config_path.write_text(config(baseline=50, canary=50))
        flags = ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        with Understudy("serve", "--config", config_path, *flags) as understudy:
            port = free_port()
            server = f"http://127.0.0.1:{port}"
            target = urllib.parse.urlsplit(understudy.metrics).netloc
            pathlib.Path(folder, "prometheus.yml").write_text(SCRAPE % (ROOT / "dashboards/rules/understudy.yaml", target))
            prometheus = subprocess.Popen(
                ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
                 f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], stdin=subprocess.DEVNULL)
            try:
                wait_for("Prometheus", lambda: get(f"{server}/-/ready"))
                drive(understudy, config_path, config, server)
            finally:
                prometheus.terminate()
                prometheus.wait(20)
            check = subprocess.run(["promtool", "check", "metrics"], input=get(understudy.metrics), text=True, capture_output=True)
            expect(check.returncode == 0, "promtool check metrics:\n" + check.stdout + check.stderr)
            proved("promtool check metrics finds no fault")
            wait_for("the accounting of the idle program to add up", lambda: accounted(samples(get(understudy.metrics))))
            proved("calls = kept + dropped, and kept = stored + waiting + evicted, to the last one")
            base = understudy.metrics.removesuffix("/metrics")
            expect(get(f"{base}/healthz") is not None and get(f"{base}/readyz") is not None, "probes")
            proved("/healthz and /readyz answer 200")
            understudy.stop()
            expect(len(slm.asked) > 0, "the split sent nothing to the candidate")
            proved(f"the split sent {len(slm.asked)} calls to the candidate, {len(openai.asked)} to the baseline")


if __name__ == "__main__":
    main()
