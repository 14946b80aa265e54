"""The dashboard on the demo: a real Prometheus scrapes `understudy demo --stay`, and every expression returns data."""

import json
import pathlib
import subprocess
import tempfile
import time
import urllib.parse

from prometheus import ROOT, SCRAPE, expressions, has_data
from stage import Understudy, expect, free_port, get, proved, wait_for

SECONDS = 25


def main():
    with tempfile.TemporaryDirectory() as folder, Understudy("demo", "--stay", "--dir", f"{folder}/demo") as demo:
        port = free_port()
        server = f"http://127.0.0.1:{port}"
        target = urllib.parse.urlsplit(demo.metrics).netloc
        pathlib.Path(folder, "prometheus.yml").write_text(SCRAPE % (ROOT / "dashboards/rules/understudy.yaml", target))
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], stdin=subprocess.DEVNULL)
        try:
            wait_for("Prometheus", lambda: get(f"{server}/-/ready"))
            start = time.time()
            wait_for("the demo's canary", lambda: "understudy_split_calls_total{" in get(demo.metrics), seconds=150)
            time.sleep(SECONDS)
            files = sorted((ROOT / "dashboards").glob("*.json"))
            found = [pair for file in files for pair in expressions(json.loads(file.read_text()))]
            empty = [f"“{title}”: {expression}" for title, expression in found if not has_data(server, expression, start, time.time())]
            expect(not empty, "no data on the demo:\n" + "\n".join(empty))
            proved(f"{len(found)} expressions return data while Prometheus scrapes the demo")
        finally:
            prometheus.terminate()
            prometheus.wait(20)
        demo.stop()
        proved("SIGTERM ends the demo and its `serve`, exit 0")


if __name__ == "__main__":
    main()
