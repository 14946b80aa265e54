"""Exported data sets, read by others: pyarrow's reader of JSON lines (Hugging Face's `datasets` reads by it), DuckDB, Polars.

Proves: both shapes of a data set load with one type in each place, tool calls, lists of text parts and missing tools included;
rows and digests are those of the card.
"""

import hashlib
import json
import pathlib
import subprocess
import tempfile

import duckdb
import polars
import pyarrow.json
import yaml
from stage import binary, expect, proved

CALLS = 80


def call(number):
    """A call with a tool, of two kinds of answer and two kinds of content."""
    city = f"Town {number}"
    text = f"How is the weather in {city}? Look it up before you say anything."
    content = [{"type": "text", "text": text}] if number % 3 == 0 else text
    tool = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    answer = {"role": "assistant", "content": f"I can't tell for {city}."}
    finish = "stop"
    if number % 2:
        function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        calls = [{"id": f"call_{number}", "type": "function", "function": function}]
        answer = {"role": "assistant", "content": None, "tool_calls": calls}
        finish = "tool_calls"
    return {
        "id": f"weather-{number}",
        "request": {
            "model": "big",
            "messages": [{"role": "system", "content": "You tell the weather."}, {"role": "user", "content": content}],
            "tools": [{"type": "function", "function": tool}],
        },
        "response": {"model": "big-1", "choices": [{"index": 0, "message": answer, "finish_reason": finish}]},
    }


def understudy(folder, *arguments):
    """Runs a command that must succeed; gives back its data."""
    command = [binary(), *arguments, "--data", str(folder / "data")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, f"{arguments}: {done.stderr}")
    return done.stdout


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        lines = "".join(json.dumps(call(number)) + "\n" for number in range(CALLS))
        (folder / "calls.jsonl").write_text(lines)
        understudy(folder, "import", "calls.jsonl")
        task = json.loads(understudy(folder, "tasks", "fit", "--format", "json"))[0]["id"]
        for shape, columns in [("chat", {"messages", "tools"}), ("prompt-completion", {"prompt", "completion", "tools"})]:
            out = folder / shape
            shares = ["--validation-share", "0.2", "--test-share", "0.2"]
            understudy(folder, "export", "--task", task, "--out", str(out), "--as", shape, *shares)
            card = json.loads((out / "card.json").read_text())
            rows = 0
            for file, told in card["files"].items():
                path = out / file
                expect(hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"], f"{file}: another digest")
                table = pyarrow.json.read_json(path)
                expect(set(table.column_names) == columns, f"{file}: {table.column_names}")
                readers = {
                    "pyarrow": table.num_rows,
                    "duckdb": duckdb.sql(f"select count(*) from read_json('{path}')").fetchall()[0][0],
                    "polars": polars.read_ndjson(path).height,
                }
                expect(set(readers.values()) == {told["examples"]}, f"{file}: {readers}, {told}")
                rows += table.num_rows
            expect(rows == CALLS, f"{rows} rows of {CALLS} calls")
            head = (out / "README.md").read_text().split("---\n")[1]
            parts = [part["split"] for part in yaml.safe_load(head)["configs"][0]["data_files"]]
            expect(sorted(parts) == ["test", "train", "validation"], f"the card's head: {parts}")
            proved(f"{shape}: {rows} examples by pyarrow, DuckDB and Polars, as the card says")


if __name__ == "__main__":
    main()
