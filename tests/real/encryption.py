"""An encrypted store, read by others: Parquet Modular Encryption in the key tools' form.

Proves: the files of `store.encryption: on` hold no plain text; pyarrow reads all columns with both keys, and the columns
of the metrics role with its key alone; without the keys pyarrow, DuckDB and Polars end with an error; `understudy calls`
reads them with its keys folder, and without keys it says which is missing.
"""

import base64
import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile

import duckdb
import polars
import pyarrow.parquet
import pyarrow.parquet.encryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from stage import Understudy, Upstream, binary, expect, files_with, post, proved, serve_on_free_ports

CONFIG = """
data: {folder}/data
upstreams: {{ openai: {{ url: {upstream} }} }}
store: {{ encryption: on }}
"""
CONTENT = ["error", "request_body", "response_body", "output_text", "tool_calls"]
CANARY = "pelican-of-the-request"


class KeyFiles(pyarrow.parquet.encryption.KmsClient):
    """Master keys from key files, by their public names: what a user of pyarrow writes."""

    def __init__(self, folder, roles):
        super().__init__()
        self.keys = {}
        for role in roles:
            for file in pathlib.Path(folder).glob(f"{role}*.key"):
                key = bytes.fromhex(file.read_text().strip())
                self.keys[f"{role}-{hashlib.sha256(key).hexdigest()[:8]}"] = key

    def wrap_key(self, key_bytes, master_key_identifier):
        raise NotImplementedError("this only reads")

    def unwrap_key(self, wrapped_key, master_key_identifier):
        wrapped = base64.b64decode(wrapped_key)
        key = self.keys[master_key_identifier]
        return AESGCM(key).decrypt(wrapped[:12], wrapped[12:], master_key_identifier.encode())


def read(file, keys, roles, columns=None):
    """The rows of a file, as a role reads them."""
    factory = pyarrow.parquet.encryption.CryptoFactory(lambda _: KeyFiles(keys, roles))
    connection = pyarrow.parquet.encryption.KmsConnectionConfig()
    decryption = factory.file_decryption_properties(connection)
    return pyarrow.parquet.ParquetFile(file, decryption_properties=decryption).read(columns=columns).to_pylist()


def refuses(what, reader):
    """The reader must end with an error, which is shown."""
    try:
        rows = reader()
    except Exception as error:  # each library has its own
        proved(f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:110]}")
        return
    expect(False, f"{what} read {rows!r:.200}")


def calls(config, *more):
    """`understudy calls`."""
    return subprocess.run([binary(), "calls", "--config", config, *more], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)


def main():
    """One store, all its readers."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "understudy.yaml")
        config.write_text(CONFIG.format(folder=folder, upstream=Upstream().url))
        with Understudy("serve", "--config", config, *serve_on_free_ports()) as understudy:
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"About the {CANARY}."}]}
            status, _ = post(f"{understudy.listen}/v1/chat/completions", body)
            expect(status == 200, f"the call got {status}")
            understudy.stop()
        keys = f"{folder}/data/keys"
        [file] = pathlib.Path(folder, "data/calls").rglob("*.parquet")
        for text in [CANARY, "gpt-4o-mini", "look that up", "request_body"]:
            expect(not files_with(f"{folder}/data", text.encode()), f"{text!r} is in a file in the clear")
        proved("no file of the store holds prompt, answer, model or column names in the clear")

        [row] = read(file, keys, ["content", "metrics"])
        expect(CANARY in row["request_body"] and "look that up" in row["output_text"], f"content: {row}")
        expect(row["tool_calls"][0]["name"] == "get_weather" and row["input_tokens"] == 57, f"row: {row}")
        proved(f"pyarrow {pyarrow.__version__} reads all {len(row)} columns with both keys")
        metrics = [name for name in row if name not in CONTENT]
        [row] = read(file, keys, ["metrics"], metrics)
        expect(row["input_tokens"] == 57 and row["request_model"] == "gpt-4o-mini", f"metrics: {row}")
        expect(CANARY not in str(row) and "look that up" not in str(row), f"the metrics role reads content: {row}")
        proved(f"pyarrow reads {len(row)} columns with the metrics key alone")
        for name in CONTENT:
            refuses(f"pyarrow with the metrics key alone, {name}", lambda name=name: read(file, keys, ["metrics"], [name]))
        refuses("pyarrow with the content key alone", lambda: read(file, keys, ["content"]))
        refuses("pyarrow without keys", lambda: pyarrow.parquet.read_table(file))
        refuses("DuckDB", lambda: duckdb.sql(f"select * from read_parquet('{file}')").fetchall())
        refuses("Polars", lambda: polars.read_parquet(file))

        shown = calls(config, "--format", "json")
        expect(shown.returncode == 0 and CANARY in json.loads(shown.stdout)[0]["request_body"], f"calls: {shown}")
        proved("`understudy calls` reads it with its keys folder")
        shutil.move(f"{keys}/content.key", f"{folder}/content.key")
        shown = calls(config, "--format", "json")
        [row] = json.loads(shown.stdout)
        expect(row["input_tokens"] == 57 and row["request_body"] is None and CANARY not in shown.stdout, f"calls: {shown}")
        proved(f"with the metrics key alone it says: {shown.stderr.strip()[:150]}")
        shutil.move(f"{keys}/metrics.key", f"{folder}/metrics.key")
        shown = calls(config, "--format", "json")
        expect(shown.returncode == 1 and "encrypted with the key metrics-" in shown.stderr, f"calls: {shown}")
        proved(f"without keys it says: {shown.stderr.strip()[:150]}")


if __name__ == "__main__":
    main()
