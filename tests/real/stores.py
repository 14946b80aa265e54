"""The one conformance suite of stores, over real servers: S3 (moto) and Azure Blob (azurite); then the program on Azure.

Proves: both kinds of store do all that understudy asks of one, listings of several pages and create-only puts by many at
once included; calls become objects below az://container/prefix, each once, and the audit says so; a wrong key is said
with what to do, and no key is ever told.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from stage import Understudy, Upstream, binary, expect, free_port, get, post, proved, serve_on_free_ports, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITE = ["cargo", "test", "--locked", "--quiet", "--lib", "--",
         "the_store_of_the_environment_conforms", "--nocapture"]
CALLS = 12
ACCOUNT, CONTAINER = "understudyreal", "calls"
KEY = base64.b64encode(hashlib.sha512(b"a key of this check alone").digest()).decode()
WRONG_KEY = base64.b64encode(b"wrong-key-canary" * 4).decode()

CONFIG = """
data: az://{container}/team-a/usage
keys: {{ dir: {folder}/local/keys }}
default_upstream: openai
upstreams: {{ openai: {{ url: {upstream} }} }}
capture: {{ spool: {{ dir: {folder}/{spool} }} }}
store: {{ flush: {{ after: 1s }} }}
"""


def start(command, address, environment=None):
    """A server, once it answers; whatever it answers."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**os.environ, **(environment or {})})

    def answers():
        try:
            return bool(get(address))
        except urllib.error.HTTPError:
            return True

    wait_for(f"the server at {address}", answers)
    return server


def conforms(location, environment, objects):
    """Run the suite over the store at a location."""
    run = subprocess.run(SUITE, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
                         env={**os.environ, **environment, "UNDERSTUDY_TEST_STORE": location,
                              "UNDERSTUDY_TEST_OBJECTS": str(objects)})
    said = run.stdout + run.stderr
    expect(run.returncode == 0 and "CONFORMS" in said, f"{location}: exit {run.returncode}\n{said[-3000:]}")
    proved(f"{location} conforms, with {objects} objects in a listing")


def make_container(endpoint, name):
    """Make a container; what understudy does not do by itself."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2021-12-02"}
    canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    to_sign = "PUT" + "\n" * 12 + canonical + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), to_sign.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT",
                                     headers={**headers, "Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"})
    with urllib.request.urlopen(request, timeout=10) as response:
        expect(response.status == 201, f"making a container: {response.status}")


def check_s3():
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    server = start([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], f"{endpoint}/moto-api/")
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/conformance", method="PUT"), timeout=10):
            pass
        credentials = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "testing",
                       "AWS_SECRET_ACCESS_KEY": "testing"}
        conforms("s3://conformance/some/prefix", credentials, 1_050)
    finally:
        server.terminate()
        server.wait(20)


def understudy(*arguments, environment):
    """Run a command of the program to its end."""
    return subprocess.run([binary(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          env={**os.environ, **environment})


def check_program(environment, folder):
    """Calls through the real program into Azure, and what it says of a wrong key."""
    upstream = Upstream()
    with Understudy("serve", "--upstream", upstream.url, "--data", f"{folder}/local", *serve_on_free_ports()) as first:
        first.stop()
    config = pathlib.Path(folder, "azure.yaml")
    config.write_text(CONFIG.format(container=CONTAINER, folder=folder, upstream=upstream.url, spool="spool"))
    os.environ.update(environment)
    with Understudy("serve", "--config", config, *serve_on_free_ports()) as program:
        for number in range(CALLS):
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Invoice {number}, please."}]}
            status, _ = post(f"{program.listen}/v1/chat/completions", body)
            expect(status == 200, f"call {number} got {status}")
        program.stop()
    audit = understudy("audit", "--config", str(config), "--format", "json", environment=environment)
    boots = json.loads(audit.stdout)
    expect(audit.returncode == 0 and [boot["stored"] for boot in boots] == [CALLS], f"audit: {audit.stdout} {audit.stderr}")
    proved(f"{CALLS} calls are below az://{CONTAINER}/team-a/usage, each once, and audit says so")

    config.write_text(CONFIG.format(container=CONTAINER, folder=folder, upstream=upstream.url, spool="other"))
    wrong = understudy("audit", "--config", str(config), environment={**environment, "AZURE_STORAGE_ACCOUNT_KEY": WRONG_KEY})
    expect(wrong.returncode == 1 and "AZURE_STORAGE_ACCOUNT_KEY" in wrong.stderr, f"a wrong key: {wrong.stderr}")
    expect(WRONG_KEY not in wrong.stderr and KEY not in wrong.stderr, "a key is told")
    proved("a wrong key is said with what to set, and is not told itself")


def check_azure():
    command = shutil.which("azurite-blob")
    expect(command, "azurite-blob must be in the PATH")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    server = start([command, "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence",
                    "--blobHost", "127.0.0.1", "--blobPort", str(port)], endpoint, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"})
    try:
        for container in ("conformance", CONTAINER):
            make_container(endpoint, container)
        credentials = {"AZURE_STORAGE_ENDPOINT": endpoint, "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}
        conforms("az://conformance/some/prefix", credentials, 5_050)
        with tempfile.TemporaryDirectory() as folder:
            check_program(credentials, folder)
    finally:
        server.terminate()
        server.wait(20)


check_s3()
check_azure()
