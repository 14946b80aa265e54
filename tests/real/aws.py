"""A real AWS SDK client (boto3, bedrock-runtime) through the program, and its new signature checked by botocore.

Proves: a client that signs for the proxy's own host reaches the upstream with a signature for the upstream's host, made
with the operator's keys, that botocore computes to the same hex; the client's own signature and token go nowhere; path
escapes and body travel unchanged.
"""

import datetime
import json
import os
import pathlib
import tempfile
from unittest import mock

import boto3
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from stage import Handler, Understudy, Upstream, expect, proved, serve_on_free_ports

REGION = "us-west-2"
OPERATOR = ("AKIDOPERATOR", "operators/secret+key", "operators-session-token")
CLIENT = ("AKIDCLIENT", "clients/secret+key", "clients-session-token")
MODEL = "us.amazon.nova-lite-v1:0"
CONFIG = """
data: {folder}/data
upstreams: {{ bedrock: {{ url: {url}, sign: aws, aws: {{ region: %s, service: bedrock }} }} }}
""" % REGION


class Converse(Handler):
    """Answers Converse and remembers what came, byte for byte."""

    def do_POST(self):
        self.server.asked.append((self.path, dict(self.headers.items()), self.body()))
        message = {"role": "assistant", "content": [{"text": "hello"}]}
        usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
        self.whole(200, {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}})


def converse(endpoint, text):
    """One call with the client's own keys."""
    retries = Config(retries={"max_attempts": 0})
    keys = dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), CLIENT))
    client = boto3.client("bedrock-runtime", region_name=REGION, endpoint_url=endpoint, config=retries, **keys)
    return client.converse(modelId=MODEL, messages=[{"role": "user", "content": [{"text": text}]}])


def expected_authorization(url, path, headers, body):
    """What botocore signs the same request with, at the time that it carries."""
    when = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    kept = {name: value for name, value in headers.items() if name in signed and name not in ("host", "x-amz-date")}
    request = AWSRequest("POST", url + path, headers=kept, data=body)
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: when):
        botocore.auth.SigV4Auth(Credentials(*OPERATOR), "bedrock", REGION).add_auth(request)
    return request.headers["Authorization"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        upstream = Upstream(Converse)
        path = pathlib.Path(folder, "understudy.yaml")
        path.write_text(CONFIG.format(folder=folder, url=upstream.url))
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        with mock.patch.dict(os.environ, dict(zip(names, OPERATOR))):
            understudy = Understudy("serve", "--config", str(path), *serve_on_free_ports())
        with understudy:
            for text in ("hello", "naïve ☂ text" * 100):
                answer = converse(understudy.listen, text)
                expect(answer["output"]["message"]["content"][0]["text"] == "hello", f"boto3 read {answer}")
                target, headers, body = upstream.asked[-1]
                headers = {name.lower(): value for name, value in headers.items()}
                expect(target == "/model/us.amazon.nova-lite-v1%3A0/converse", f"the path is {target}")
                sent = json.loads(body)["messages"][0]["content"][0]["text"]
                expect(sent == text, f"the body is {body[:200]!r}")
                expect(headers["x-amz-security-token"] == OPERATOR[2], "the operator's token is missing")
                expect("CLIENT" not in str(headers) and CLIENT[2] not in str(headers), f"the client's keys travel: {headers}")
                expected = expected_authorization(upstream.url, target, headers, body)
                expect(headers["authorization"] == expected, f"{headers['authorization']}\nbotocore signs {expected}")
            proved("a boto3 client's call is signed anew, as botocore signs it")
            understudy.stop()


main()
