"""A real https upstream (Python's ssl with a certificate authority made by openssl).

Proves: a certificate of an authority in `ca_file` is accepted and the call goes through, streamed and not; without
`ca_file` the same upstream is refused with 502 (verification cannot be switched off); a missing `ca_file` is an error
at start; a WebSocket goes through to an upstream that would rather speak HTTP/2, which can't be upgraded.
"""

import pathlib
import socket
import ssl
import subprocess
import tempfile
import threading

from stage import Understudy, Upstream, binary, expect, post, proved, serve_on_free_ports

CONFIG = """
data: {folder}/data
upstreams: {{ secure: {{ url: https://localhost:{port}{ca} }} }}
"""


def openssl(folder, *arguments):
    """Run openssl, quietly."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def make_certificates(folder):
    """An authority, and a certificate of its for localhost."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Understudy test authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    pathlib.Path(folder, "san.ext").write_text("subjectAltName=DNS:localhost\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "san.ext", "-out", "server.pem")


class SecureUpstream(Upstream):
    """The fake provider behind TLS."""

    def __init__(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
        super().__init__()

    def get_request(self):
        stream, address = super().get_request()
        return self.context.wrap_socket(stream, server_side=True), address


class SocketUpstream:
    """A TLS upstream that offers HTTP/2 first, switches protocols, and echoes five bytes."""

    def __init__(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.spoken = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        stream = self.context.wrap_socket(self.listener.accept()[0], server_side=True)
        self.spoken.append(stream.selected_alpn_protocol())
        head = b""
        while b"\r\n\r\n" not in head:
            head += stream.recv(4096)
        stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
        stream.sendall(stream.recv(5))


def through_a_socket(listen):
    """Five bytes there and back through an upgraded connection."""
    address = listen.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((address[0], int(address[1])), timeout=10) as stream:
        stream.sendall(b"GET /v1/realtime?model=m HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            piece = stream.recv(4096)
            expect(piece, f"no upgrade: {head!r}")
            head += piece
        expect(head.startswith(b"HTTP/1.1 101 "), f"no upgrade: {head!r}")
        stream.sendall(b"hello")
        return stream.recv(5)


def call(folder, config, stream):
    """Status and body of one call through a program with this config."""
    path = pathlib.Path(folder, "understudy.yaml")
    path.write_text(config)
    with Understudy("serve", "--config", str(path), *serve_on_free_ports()) as understudy:
        body = {"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
        answer = post(f"{understudy.listen}/v1/chat/completions", body)
        understudy.stop()
        return answer


def main():
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        upstream = SecureUpstream(folder)
        trusting = CONFIG.format(folder=folder, port=upstream.port, ca=f", ca_file: {folder}/ca.pem")
        for stream in (False, True):
            status, body = call(folder, trusting, stream)
            expect(status == 200 and b"get_weather" in body, f"with ca_file: {status} {body[-300:]!r}")
        proved("an https upstream whose authority is in ca_file answers, streamed and not")
        asked = len(upstream.asked)
        status, body = call(folder, CONFIG.format(folder=folder, port=upstream.port, ca=""), False)
        expect(status == 502, f"without ca_file: {status} {body[-300:]!r}")
        expect(len(upstream.asked) == asked, "an unverified upstream was sent a request")
        proved("the same upstream without ca_file is refused with 502, and never sees the request")
        path = pathlib.Path(folder, "understudy.yaml")
        sockets = SocketUpstream(folder)
        path.write_text(CONFIG.format(folder=folder, port=sockets.port, ca=f", ca_file: {folder}/ca.pem"))
        with Understudy("serve", "--config", str(path), *serve_on_free_ports()) as understudy:
            echoed = through_a_socket(understudy.listen)
            expect(echoed == b"hello", f"the socket echoed {echoed!r}")
            expect(sockets.spoken[0] != "h2", "the upgrade was asked for in HTTP/2")
            understudy.stop()
        proved("a WebSocket goes through to an https upstream that offers HTTP/2")
        path.write_text(CONFIG.format(folder=folder, port=upstream.port, ca=f", ca_file: {folder}/nowhere.pem"))
        run = subprocess.run([binary(), "serve", "--config", str(path), *serve_on_free_ports()], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=30)
        expect(run.returncode != 0 and "nowhere.pem" in run.stderr, f"a missing ca_file: {run.returncode} {run.stderr[-300:]!r}")
        proved("a ca_file that is missing is an error at start that names it")


main()
