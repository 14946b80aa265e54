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
    """Process id of the program inside the container: the youngest child below buildah."""
    while children := pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        parent = int(children[-1])
    return parent


def check_serve(container, folder):
    """A call through the container to an upstream that has a name only there."""
    upstream = Upstream()
    hosts, data = pathlib.Path(folder, "hosts"), pathlib.Path(folder, "data")
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {NAME}\n")
    data.mkdir(mode=0o777)
    data.chmod(0o777)  # the volume of a host that knows nothing of the user inside
    run = [*BUILDAH, "run", "--isolation", "chroot", "-v", f"{hosts}:/etc/hosts:ro", "-v", f"{data}:/data", container, "--",
           "/usr/bin/understudy"]
    url = f"http://{NAME}:{upstream.port}"
    with Understudy("serve", "--upstream", url, "--data", "/data/understudy-data", *serve_on_free_ports(), program=run) as understudy:
        status, body = post(f"{understudy.listen}/v1/chat/completions",
                            {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello from the image"}]})
        expect(status == 200 and b"chatcmpl-real1" in body, f"the call got {status} {body[:200]}")
        proved(f"a call reaches {NAME}, a name that only the container's /etc/hosts knows")
        inside = program_pid(understudy.process.pid)
        owner = os.stat(f"/proc/{inside}").st_uid
        expect(owner == 65532, f"the program runs as user {owner}")
        os.kill(inside, signal.SIGTERM)
        wait_for("the container to end", lambda: understudy.process.poll() is not None, DRAIN_SECONDS)
        expect(understudy.process.poll() == 0, f"the container ended with {understudy.process.poll()}:\n{understudy.tail()}")
        expect(list(data.rglob("*.parquet")), "no Parquet in the volume")
        proved("SIGTERM drains into the volume; exit 0; the program ran as user 65532")


def main():
    output(ROOT / "deploy/scratch.sh", binary(), TAG)
    container = output(*BUILDAH, "from", TAG)
    try:
        said = output(*BUILDAH, "run", "--isolation", "chroot", container, "--", "/usr/bin/understudy", "--version")
        expect(said.startswith("understudy "), f"--version said {said!r}")
        proved(f"“{said}” from an image FROM scratch")
        with tempfile.TemporaryDirectory() as folder:
            check_serve(container, folder)
    finally:
        subprocess.run([*BUILDAH, "rm", container], stdout=subprocess.DEVNULL, check=False)
        subprocess.run([*BUILDAH, "rmi", TAG], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


main()
