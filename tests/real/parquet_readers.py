#!/usr/bin/env python3
"""Reads a store's Parquet files with DuckDB, pyarrow and Polars, as users do, and checks types and values.

    UNDERSTUDY_TEST_TABLE_DIR=DIR cargo test --lib a_store_for_other_readers
    pip install duckdb pyarrow polars pytz
    python3 tests/real/parquet_readers.py DIR

Works on any store's directory; the values of single rows are checked only on the one that the test above writes.
Prints each check; exits with 1 when one of them failed.
"""

import datetime
import glob
import sys

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

FAULTS = []
MASKED_IN = [{"column": "path", "kind": "EMAIL", "count": 2}]
STARTED = datetime.datetime(2026, 11, 21, 7, 0, 0, 123456, tzinfo=datetime.timezone.utc)
DUCKDB_TYPES = {
    "call_id": "VARCHAR",
    "step": "INTEGER",
    "sequence": "BIGINT",
    "started_at": "TIMESTAMP WITH TIME ZONE",
    "streamed": "BOOLEAN",
    "cost_usd": "DOUBLE",
    "tools_offered": "VARCHAR[]",
    "tool_calls": "STRUCT(id VARCHAR, \"name\" VARCHAR, arguments VARCHAR)[]",
    "masked": "STRUCT(kind VARCHAR, count INTEGER)[]",
    "masked_in": "STRUCT(\"column\" VARCHAR, kind VARCHAR, count INTEGER)[]",
    "tags": "MAP(VARCHAR, VARCHAR)",
    "hour": "VARCHAR",
    "dt": "DATE",
}
ARROW_TYPES = {
    "call_id": pyarrow.string(),
    "step": pyarrow.int32(),
    "sequence": pyarrow.int64(),
    "started_at": pyarrow.timestamp("us", tz="UTC"),
    "streamed": pyarrow.bool_(),
    "cost_usd": pyarrow.float64(),
    "tags": pyarrow.map_(pyarrow.string(), pyarrow.field("value", pyarrow.string(), nullable=False)),
}


def check(what, found, expected):
    """Prints one comparison and remembers a fault."""
    good = found == expected
    print(f"{'ok   ' if good else 'FAULT'} {what}: {found!r}" + ("" if good else f", expected {expected!r}"))
    if not good:
        FAULTS.append(what)


def normal(name):
    """DuckDB's type names differ in their quoting between versions."""
    return str(name).replace('"', "").lower()


def duckdb_reads(calls, rows):
    """Types, hive partitions and values through SQL."""
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    table = f"read_parquet('{calls}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
    types = {row[0]: row[1] for row in db.execute(f"describe select * from {table}").fetchall()}
    for column, expected in DUCKDB_TYPES.items():
        check(f"duckdb type of {column}", normal(types.get(column)), normal(expected))
    check("duckdb rows", db.execute(f"select count(*) from {table}").fetchone()[0], rows)
    misplaced = f"select count(*) from {table} where started_at is not null and (strftime(started_at, 'h%H') <> hour or started_at::date <> dt)"
    check("duckdb rows outside their partition", db.execute(misplaced).fetchone()[0], 0)
    one = f"select tags['team'], tool_calls[1].name, started_at, tags['ü'], cost_usd, input_tokens from {table} where call_id = 'conversation-a-0'"
    found = db.execute(one).fetchone()
    if found is not None:
        check("duckdb values", found, ("a", "search", STARTED, "", 0.25, 1 << 40))
        masked = f"select masked_in from {table} where call_id = 'conversation-a-0'"
        check("duckdb masked_in", db.execute(masked).fetchone()[0], MASKED_IN)
        bare = f"select tags, tool_calls, cost_usd, status, outcome, hour from {table} where call_id = 'bare'"
        check("duckdb nulls and empties", db.execute(bare).fetchone(), ({}, [], None, None, "timeout", "h08"))


def arrow_reads(calls, files):
    """Schema of the files, without and with partitions; nothing of Arrow embedded."""
    rows = 0
    for name in files:
        parquet = pyarrow.parquet.ParquetFile(name)
        rows += parquet.metadata.num_rows
        if (parquet.metadata.metadata or {}).get(b"ARROW:schema"):
            check(f"pyarrow embedded schema in {name}", True, False)
        codecs = {
            parquet.metadata.row_group(group).column(column).compression
            for group in range(parquet.metadata.num_row_groups)
            for column in range(parquet.metadata.num_columns)
        }
        check("pyarrow compression", codecs, {"ZSTD"})
    dataset = pyarrow.dataset.dataset(calls, format="parquet", partitioning="hive")
    for column, expected in ARROW_TYPES.items():
        check(f"pyarrow type of {column}", dataset.schema.field(column).type, expected)
    table = dataset.to_table()
    check("pyarrow rows", table.num_rows, rows)
    check("pyarrow list<struct>", pyarrow.types.is_struct(table.schema.field("attempts").type.value_type), True)
    for row in table.to_pylist():
        if row["call_id"] == "conversation-a-0":
            check("pyarrow map", row["tags"], [("team", "a"), ("ü", "")])
            check("pyarrow started_at", row["started_at"].astimezone(datetime.timezone.utc), STARTED)
            check("pyarrow masked", row["masked"], [{"kind": "EMAIL", "count": 2}])
            check("pyarrow masked_in", row["masked_in"], MASKED_IN)
            check("pyarrow hour", row["hour"], "h07")
    return rows


def polars_reads(calls, rows):
    """The same through Polars."""
    frame = polars.scan_parquet(f"{calls}/**/*.parquet", hive_partitioning=True).collect()
    check("polars rows", frame.height, rows)
    check("polars type of started_at", frame.schema["started_at"], polars.Datetime("us", "UTC"))
    check("polars type of step", frame.schema["step"], polars.Int32)
    check("polars type of tools_offered", frame.schema["tools_offered"], polars.List(polars.String))
    check("polars type of hour", frame.schema["hour"], polars.String)
    full = frame.filter(polars.col("call_id") == "conversation-a-0")
    if full.height:
        call = {"id": None, "name": "search", "arguments": '{"q":"x"}'}
        check("polars tool_calls", full["tool_calls"].to_list()[0], [call])
        check("polars masked_in", full["masked_in"].to_list()[0], MASKED_IN)
        # A map is a dict since Polars 2; before, it is a list of entries.
        tags = full["tags"].to_list()[0]
        tags = tags if isinstance(tags, dict) else {entry["key"]: entry["value"] for entry in tags}
        check("polars tags", tags, {"team": "a", "ü": ""})


def main(directory):
    """Checks one store's directory."""
    calls = f"{directory}/calls"
    files = sorted(glob.glob(f"{calls}/**/*.parquet", recursive=True))
    if not files:
        sys.exit(f"no Parquet files below {calls}")
    rows = arrow_reads(calls, files)
    duckdb_reads(calls, rows)
    polars_reads(calls, rows)
    for name in sorted(glob.glob(f"{directory}/scores/**/*.parquet", recursive=True))[:1]:
        sql = f"select task, candidate, typeof(judged_at), typeof(agreement) from read_parquet('{name}', hive_partitioning = true)"
        print("ok    duckdb scores:", duckdb.connect().execute(sql).fetchall())
    print(f"duckdb {duckdb.__version__}, pyarrow {pyarrow.__version__}, polars {polars.__version__}: {len(FAULTS)} faults")
    sys.exit(1 if FAULTS else 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
