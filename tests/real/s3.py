"""A real S3 API (moto's server) as the store.

Proves: missing keys are an error at start where the store is remote; calls become Parquet objects below the prefix;
SIGTERM drains the spool into the store; pyarrow reads what boto3 fetches; nothing sensitive is in any object.
"""

import io
import os
import pathlib
import subprocess
import sys
import tempfile

import boto3
import pyarrow.parquet
from stage import Understudy, Upstream, binary, expect, free_port, get, post, proved, serve_on_free_ports, wait_for

BUCKET, PREFIX = "understudy-real", "team-a/usage"
CALLS = 25
EMAIL = "maria.huber@example.com"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
               "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}

CONFIG = """
data: {data}
keys: {{ dir: {folder}/keys }}
default_upstream: openai
upstreams: {{ openai: {{ url: {upstream} }} }}
capture: {{ spool: {{ dir: {folder}/spool }} }}
store: {{ flush: {{ after: 2s, bytes: 1MiB }} }}
"""


def check_missing_keys(config):
    """With a remote store the program must not make keys of its own."""
    run = subprocess.run([binary(), "serve", "--config", config, *serve_on_free_ports()], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=30)
    expect(run.returncode in (1, 2) and "key" in run.stderr, f"missing keys: exit {run.returncode}, said {run.stderr[-400:]!r}")
    proved("missing keys with a remote store are an error at start")


def make_keys(folder, upstream):
    """A first local start makes the keys, as an operator would before spreading them as a secret."""
    with Understudy("serve", "--upstream", upstream, "--data", f"{folder}/local", *serve_on_free_ports()) as understudy:
        understudy.stop()
    keys = pathlib.Path(folder, "local/keys")
    expect({key.name for key in keys.iterdir()} == {f"{name}.key" for name in ("spool", "store", "origin", "surrogate")}, f"keys: {list(keys.iterdir())}")
    expect(all(key.stat().st_mode & 0o077 == 0 for key in keys.iterdir()), "others may read the keys")
    keys.rename(pathlib.Path(folder, "keys"))


def send(base, count):
    """A few calls, each with an address that must be masked."""
    for number in range(count):
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Invoice {number} of {EMAIL}, please."}]}
        status, _ = post(f"{base}/v1/chat/completions", body, {"authorization": "Bearer sk-s3-canary"})
        expect(status == 200, f"call {number} got {status}")


def fetch(client):
    """{key: bytes} of every object below the prefix."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def check_objects(objects):
    """Every call is there once, readable, masked."""
    tables = [pyarrow.parquet.read_table(io.BytesIO(data)) for key, data in objects.items()
              if key.startswith(f"{PREFIX}/calls/dt=") and key.endswith(".parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    expect(len(rows) == CALLS, f"{len(rows)} rows in {len(tables)} objects instead of {CALLS}")
    expect(len({row["call_id"] for row in rows}) == CALLS, "a call is there twice")
    expect(all(row["output_text"] for row in rows), "a row has no output text")
    for row in rows:
        expect(EMAIL not in str(row), "an e-mail address was stored")
    for key, data in objects.items():
        expect(EMAIL.encode() not in data and b"sk-s3-canary" not in data, f"something sensitive is in {key}")
    proved(f"{CALLS} calls in {len(tables)} objects below {PREFIX}/calls/, each once, readable by pyarrow, masked")


def main():
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=endpoint)
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("the S3 server", lambda: get(f"{endpoint}/moto-api/"))
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket=BUCKET)
        upstream = Upstream()
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder, "remote.yaml")
            config.write_text(CONFIG.format(data=f"s3://{BUCKET}/{PREFIX}", folder=folder, upstream=upstream.url))
            check_missing_keys(config)
            make_keys(folder, upstream.url)
            with Understudy("serve", "--config", config, *serve_on_free_ports()) as understudy:
                send(understudy.listen, CALLS - 5)
                wait_for("the first objects", lambda: fetch(client))
                send(understudy.listen, 5)
                understudy.stop()
                proved("SIGTERM drains the spool into the store and exits 0")
            check_objects(fetch(client))
    finally:
        server.terminate()
        server.wait(20)


main()
