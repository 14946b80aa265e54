#!/usr/bin/env python3
"""Runs one step of `understudy job run NAME --engine spark` on Spark, or on what speaks Spark Connect, like Sail.

    understudy job run assign --engine spark --master 'local[4]' --data s3://bucket/calls --out s3://bucket/assigned
    python3 driver.py [--master URL | --remote URL] JOB.json

`understudy job run` writes JOB.json and starts this file; nobody needs to write one by hand:

    step     assign, mask or stats
    inputs   the Parquet files of calls
    out      the folder of the results, which must not be there: nothing is ever overwritten or removed. What makes them
             whole is the commit that `job run` puts afterwards
    columns  what the step reads, in SQL: a column that older files lack is null
    schema   what the step gives, in SQL
    worker   the command of a worker; `@name` stands for one of the files
    files    small files that workers read: a task book, tombstones

Spark reads, divides, retries and writes. Each partition's rows go as an Arrow stream through a worker, which is the same
code that the local engine runs; so the digests, printed at the end as JSON, are the same too. Executors need Python with
pyarrow, and the program `understudy`.
"""

import argparse
import json
import os
import shutil
import sys

ROWS_AT_ONCE = 500  # bodies are large: so many rows of calls are in a worker's memory at once


def give_up(message):
    """End with words on what to install."""
    sys.exit(f"driver.py: {message}")


def session(master, remote):
    """A session with the Spark that is meant."""
    if not remote and (master or "local").startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # executors are here: this Python has what they need
    try:
        import pyarrow  # noqa: F401  (Spark's own error comes late and from an executor)
        from pyspark.sql import SparkSession
    except ImportError as error:
        give_up(f"{error.name} is missing: `pip install 'pyspark==4.0.*' pyarrow pandas`, or for --remote alone "
                "`pip install 'pyspark-client==4.0.*'`")
    if remote:
        builder = SparkSession.builder.remote(remote)
    elif "SPARK_REMOTE" in os.environ:
        builder = SparkSession.builder
    else:
        if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            give_up("Spark needs Java 17: install it (Debian: openjdk-17-jre-headless), or say --remote for Spark Connect")
        builder = SparkSession.builder.appName("understudy")
        builder = builder.master(master) if master else builder
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ROWS_AT_ONCE),
    }
    spark = builder.getOrCreate()
    for name, value in settings.items():
        spark.conf.set(name, value)
    return spark


def through(command, files):
    """A function for `mapInArrow`: a partition's batches through one worker, fed by a thread of its own."""

    def pipe(batches):
        import itertools
        import os
        import subprocess
        import tempfile
        import threading

        import pyarrow

        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)
            arguments = [os.path.join(folder, part[1:]) if part.startswith("@") else part for part in command]
            words = open(os.path.join(folder, "stderr"), "w+", encoding="utf-8", errors="replace")
            one_thread = {"RAYON_NUM_THREADS": "1", **os.environ}  # Spark runs as many workers as it has cores
            try:
                worker = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
                                          env=one_thread)
            except OSError as error:
                raise RuntimeError(f"no worker on this executor: {error}; put the program there, or say --worker") from error
            faults = []

            def feed():
                try:
                    with worker.stdin, pyarrow.ipc.new_stream(worker.stdin, first.schema) as stream:
                        for batch in itertools.chain([first], batches):
                            stream.write_batch(batch)
                except BrokenPipeError:
                    pass  # the worker ended, and says why
                except BaseException as error:  # Spark's own: told below, where Spark hears it
                    faults.append(error)
                    worker.kill()

            feeder = threading.Thread(target=feed, daemon=True)
            feeder.start()
            try:
                try:
                    with pyarrow.ipc.open_stream(worker.stdout) as results:
                        yield from results
                except pyarrow.ArrowInvalid as error:
                    faults.append(error)
                feeder.join()
                code = worker.wait()
                words.seek(0)
                said = words.read().strip()
                if code != 0:
                    raise RuntimeError(f"{' '.join(command)} ended with {code}: {said}")
                if faults:
                    raise faults[0]
            finally:
                worker.kill()
                worker.wait()
                words.close()

    return pipe


def run(spark, job):
    """The step over all calls; what it came to."""
    from pyspark.sql import functions as sql

    calls = spark.read.option("mergeSchema", "true").parquet(*job["inputs"])
    there = set(calls.columns)
    columns = [(name, kind) for name, kind in (column.split(" ", 1) for column in job["columns"])]
    calls = calls.select(*[sql.col(name) if name in there else sql.lit(None).cast(kind).alias(name)
                           for name, kind in columns])
    rows = calls.mapInArrow(through(job["worker"], job["files"]), job["schema"])
    if job["step"] == "stats":
        rows = rows.groupBy("task_id", "measure", "bucket").agg(sql.sum("value").alias("value"))
    try:
        rows.write.mode("error").option("compression", "zstd").parquet(job["out"])
    except Exception as error:  # each engine has a class of its own for it
        if any(words in str(error).lower() for words in ("path_already_exists", "already exists")):
            give_up(f"{job['out']} is there already, and nothing is ever overwritten: say another --out; where it is of a job "
                    f"that did not end, remove it by hand and run the job again ({str(error).splitlines()[0]})")
        raise
    # Of what was written, not of what was meant to be.
    digest = through([job["worker"][0], "worker", job["step"], "--digest"], {})
    parts = spark.read.parquet(job["out"]).mapInArrow(digest, "rows bigint, digest string").collect()
    return {"rows": sum(part["rows"] for part in parts),
            "digest": f"{sum(int(part['digest'], 16) for part in parts) % (1 << 128):032x}"}


def main():
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--master", help="a Spark master, as in local[4]")
    parser.add_argument("--remote", help="a Spark Connect server, as in sc://host:15002")
    parser.add_argument("job", help="what `understudy job run` wrote")
    arguments = parser.parse_args()
    with open(arguments.job, encoding="utf-8") as file:
        job = json.load(file)
    spark = session(arguments.master, arguments.remote)
    try:
        print(json.dumps(run(spark, job)), flush=True)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
