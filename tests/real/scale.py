"""Jobs over all kept calls on real engines: what this process makes, Sail makes too, and Spark where it is installed.

Proves: `job run assign|mask|stats --engine spark` over Spark Connect on a real Sail gives the digests that `--engine local`
gives, also where calls are erased; a worker that fails says why through the engine; what is not installed is named.
Where the full pyspark and Java are there, the same on Spark itself.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet
from stage import binary, expect, free_port, proved, wait_for

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures" / "agent-calls.jsonl"
STEPS = ["assign", "mask", "stats"]
JOB_SECONDS = 120


def run(folder, *arguments, code=0, **variables):
    """What the program prints, as JSON where it ends well; else its words."""
    done = subprocess.run([binary(), *map(str, arguments)], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=JOB_SECONDS, env={**os.environ, **variables})
    expect(done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout) if code == 0 and done.stdout.startswith(("{", "[")) else done.stderr


def job(folder, step, out, *more, **variables):
    """One job."""
    began = time.monotonic()
    done = run(folder, "job", "run", step, "--data", "data", "--out", out, "--format", "json", *more, **variables)
    return done, time.monotonic() - began


def same(folder, engine, *flags, **variables):
    """All steps on an engine give what they give here."""
    for step in STEPS:
        here, _ = job(folder, step, f"local-{step}")
        there, seconds = job(folder, step, f"{engine}-{step}", "--engine", "spark", "--python", sys.executable, *flags,
                             **variables)
        told = [(done["rows"], done["digest"]) for done in (here, there)]
        expect(told[0] == told[1], f"{step}: here {told[0]}, on {engine} {told[1]}")
        if step == "stats":
            expect(here["tasks"] == there["tasks"], f"here {here['tasks']}, on {engine} {there['tasks']}")
        proved(f"{step} on {engine}: {told[0][0]} rows, digest {told[0][1]} as here ({seconds:.1f} s)")


def listens(port):
    """Whether something does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def on_sail(folder):
    """Sail, by Spark Connect."""
    port = free_port()
    sail = shutil.which("sail") or pathlib.Path(sys.executable).with_name("sail")
    with open(f"{folder}/sail.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen([sail, "spark", "server", "--ip", "127.0.0.1", "--port", str(port)],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for("Sail", lambda: server.poll() is not None or listens(port), 60)
        expect(server.poll() is None, pathlib.Path(folder, "sail.log").read_text(encoding="utf-8")[-2000:])
        remote = ["--remote", f"sc://127.0.0.1:{port}"]
        same(folder, "sail", *remote)
        fails(folder, *remote)
    finally:
        server.kill()
        server.wait()


def on_spark(folder):
    """Spark itself, two threads of it."""
    settings = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
                "PYSPARK_SUBMIT_ARGS": "--conf spark.ui.enabled=false --conf spark.driver.host=127.0.0.1 pyspark-shell"}
    same(folder, "spark", "--master", "local[2]", **settings)


def fails(folder, *remote):
    """A worker's words come through, and what failed can be run again."""
    lost = ["job", "run", "assign", "--data", "data", "--out", "again", "--engine", "spark", "--python", sys.executable, *remote]
    words = run(folder, *lost, "--worker", "/no/such/program", code=1)
    expect("no worker on this executor" in words, words[-2000:])
    shutil.rmtree(f"{folder}/again/assignments", ignore_errors=True)  # by hand, as nothing is overwritten
    again, _ = job(folder, "assign", "again", "--engine", "spark", "--python", sys.executable, *remote)
    here, _ = job(folder, "assign", "local-assign")
    expect(again["digest"] == here["digest"], f"{again}")
    proved("a worker that can't start is told through the engine; the job then runs again into the same folder")


def main():
    """One store, all engines."""
    with tempfile.TemporaryDirectory() as folder:
        run(folder, "import", FIXTURE, "--data", "data")
        run(folder, "tasks", "fit", "--data", "data")
        [file] = pathlib.Path(folder, "data/calls").rglob("*.parquet")
        gone = pyarrow.parquet.read_table(file, columns=["conversation_id"]).to_pylist()[0]["conversation_id"]
        plain = [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-I", "-c", "import pyspark"]
        if subprocess.run(plain, capture_output=True).returncode:
            words = run(folder, "job", "run", "stats", "--data", "data", "--out", "none", "--engine", "spark",
                        "--python", plain[0], code=1)
            expect("pip install" in words, words)
            proved("a Python without pyspark is told what to install")
        # A tombstone alone, as it is until the sweep is over: engines read a row that is gone, and leave it out.
        tombstone = {"at": 1 << 60, "conversations": [gone]}
        pathlib.Path(folder, "data/erasures").mkdir(exist_ok=True)
        pathlib.Path(folder, "data/erasures/e1.json").write_text(json.dumps(tombstone), encoding="utf-8")
        on_sail(folder)
        import pyspark
        if pathlib.Path(pyspark.__file__).with_name("jars").exists() and shutil.which("java"):
            on_spark(folder)
        else:
            print("  skipped: Spark itself, which asks for the full pyspark and Java 17")


if __name__ == "__main__":
    main()
