"""The operator's page and `understudy report` on the demo, in a real Chromium."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from stage import Understudy, binary, expect, get, proved, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    with tempfile.TemporaryDirectory() as folder, Understudy("demo", "--stay", "--dir", f"{folder}/demo") as demo:
        page = demo.address("admin")
        wait_for("the demo's canary", lambda: "understudy_split_calls_total{" in get(demo.metrics), seconds=200)
        # What is canaried is ready; the page says so once it has weighed the scores.
        html = wait_for("a verdict on the page", lambda: (text := get(page)) and "badge promote" in text and text, seconds=90)
        expect("Simulated models." in html, "the page does not say that its models are simulated")
        report = pathlib.Path(folder, "report.html")
        done = subprocess.run([binary(), "report", "--config", f"{folder}/demo/understudy.yaml", "--out", report],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        expect(done.returncode == 0 and report.exists(), f"`report` failed: {done.stderr}")
        proved(f"`report`: {done.stderr.strip()}, {report.stat().st_size // 1000} KB")
        shots = pathlib.Path(os.environ.get("UNDERSTUDY_SCREENSHOTS", f"{folder}/shots"))
        shots.mkdir(parents=True, exist_ok=True)
        compiler, chromium = shutil.which("tsc"), shutil.which("chromium")
        expect(compiler and chromium, "chromium and the Node packages of the checks must be there")
        tools = pathlib.Path(compiler).parents[2]
        looked = subprocess.run(["node", ROOT / "tests/real/page.mjs", tools, chromium, f"{page}/", report, shots],
                                stdin=subprocess.DEVNULL, timeout=240)
        if looked.returncode != 0:
            sys.exit(1)
        demo.stop()


if __name__ == "__main__":
    main()
