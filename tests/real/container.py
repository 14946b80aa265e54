"""The image without a base, built and run by buildah.

Proves: the program starts from an image that holds nothing but itself and its libraries, as a user of its own; names
are resolved in it (the upstream is a name of its /etc/hosts); the data volume is writable; SIGTERM drains.
"""

import os
import pathlib
import signal
import subprocess
import tempfile

from stage import DRAIN_SECONDS, Understudy, Upstream, binary, expect, post, proved, serve_on_free_ports, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILDAH = ["buildah", "--storage-driver", "vfs"]
TAG = "understudy:real-check"
NAME = "llm.internal"


def output(*command):
    """Standard output of a command that must succeed."""
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    expect(run.returncode == 0, f"{' '.join(map(str, command))} ended with {run.returncode}:\n{run.stdout}{run.stderr}")
    return run.stdout.strip()


def program_pid(parent):
    """Process id of the program inside the container: the last of the chain of children below buildah."""
    def children(pid):  # of any of its threads
        return [int(child) for file in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]

    while below := children(parent):
        parent = max(below)
    name = pathlib.Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")[0]
    expect(name == b"/usr/bin/understudy", f"the innermost process is {name}")
    return parent


def serve(container, upstream, *options, data=()):
    """The program in the container, on free ports of this machine; ended by `end`."""
    # --no-hosts: otherwise buildah mounts a file of its own there too, and which of the two wins is chance.
    run = [*BUILDAH, "run", "--isolation", "chroot", "--no-hosts", *options, container, "--", "/usr/bin/understudy"]
    return Understudy("serve", "--upstream", upstream, *data, *serve_on_free_ports(), program=run)


def end(understudy):
    """SIGTERM to the program itself, which must be an ordinary user's, drain, and exit 0."""
    inside = program_pid(understudy.process.pid)
    owner = os.stat(f"/proc/{inside}").st_uid
    expect(owner == 65532, f"the program runs as user {owner}")
    os.kill(inside, signal.SIGTERM)
    wait_for("the container to end", lambda: understudy.process.poll() is not None, DRAIN_SECONDS)
    expect(understudy.process.poll() == 0, f"the container ended with {understudy.process.poll()}:\n{understudy.tail()}")


def check_own_volume(container):
    """Without options the program keeps its data in the image's own volume, so that must be writable."""
    with serve(container, "http://127.0.0.1:9") as understudy:
        expect(any("made the keys" in line for line in understudy.lines), "no keys were made in the image's volume")
        end(understudy)
    proved("the image's own /data is writable for user 65532, as whom the program runs")


def check_call(container, folder):
    """A call through the container to an upstream that has a name only there; the record outlives the container."""
    upstream = Upstream()
    hosts, data = pathlib.Path(folder, "hosts"), pathlib.Path(folder, "data")
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {NAME}\n")
    data.mkdir()
    data.chmod(0o777)  # a folder of a host that knows nothing of the user inside
    # Not at /data, where buildah mounts the image's declared volume too: which of the two wins is chance.
    mounts = ["-v", f"{hosts}:/etc/hosts:ro", "-v", f"{data}:/kept"]
    with serve(container, f"http://{NAME}:{upstream.port}", *mounts, data=("--data", "/kept/data")) as understudy:
        status, body = post(f"{understudy.listen}/v1/chat/completions",
                            {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello from the image"}]})
        expect(status == 200 and b"chatcmpl-real1" in body, f"the call got {status} {body[:200]}")
        proved(f"a call reaches {NAME}, a name that only the container's /etc/hosts knows")
        end(understudy)
    found = [str(path) for path in data.rglob("*")]
    expect(any(path.endswith(".parquet") for path in found), f"no Parquet in the mounted folder, which holds {found}")
    proved("SIGTERM drains the record into the mounted folder; exit 0")


def main():
    output(ROOT / "deploy/scratch.sh", binary(), TAG)
    container = output(*BUILDAH, "from", TAG)
    try:
        said = output(*BUILDAH, "run", "--isolation", "chroot", container, "--", "/usr/bin/understudy", "--version")
        expect(said.startswith("understudy "), f"--version said {said!r}")
        proved(f"“{said}” from an image FROM scratch")
        with tempfile.TemporaryDirectory() as folder:
            check_own_volume(container)
            check_call(container, folder)
    finally:
        subprocess.run([*BUILDAH, "rm", container], stdout=subprocess.DEVNULL, check=False)
        subprocess.run([*BUILDAH, "rmi", TAG], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


main()
