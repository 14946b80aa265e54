//! TLS on the listener: by files, with both HTTP versions, reloaded, and never a panic.

use super::{Lab, WELL, well};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use understudy_call::record::Outcome;
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Step, Upstream};
use understudy_tests::{PATIENCE, eventually};

/// A file of a test certificate: `first` or `second`, `pem` or `key`.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls")).join(name)
}

/// Puts a certificate and its key where the config has them, as a renewal does.
fn install(home: &Home, name: &str) {
    for (file, of) in [("server.pem", "pem"), ("server.key", "key")] {
        let draft = home.path().join("draft");
        std::fs::copy(fixture(&format!("{name}.{of}")), &draft).expect("a writable folder");
        std::fs::rename(draft, home.path().join(file)).expect("a writable folder");
    }
}

fn config(upstream: &Upstream) -> String {
    format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ntls: {{ cert: server.pem, key: server.key }}\n",
        upstream.url()
    )
}

fn serving() -> (Upstream, Home, Program) {
    let upstream = Upstream::start(|seen| match seen.head.path() {
        "/silent" => vec![Step::Hang],
        _ => well(),
    });
    let home = Home::new();
    install(&home, "first");
    let program = home.serve_config(&config(&upstream));
    (upstream, home, program)
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection that trusts one of the certificates alone and offers these protocols.
fn connect(address: SocketAddr, trusted: &str, protocols: &[&str]) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(fixture(&format!("{trusted}.pem"))).expect("a certificate");
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// One call on a connection of its own; its answer.
fn call(address: SocketAddr, trusted: &str) -> std::io::Result<String> {
    let mut stream = connect(address, trusted, &["http/1.1"])?;
    stream.write_all(&super::post("tls"))?;
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(WELL) {
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => break,
            read => heard.extend_from_slice(&piece[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

#[test]
fn calls_come_by_tls_and_both_versions_are_offered() {
    let (upstream, home, program) = serving();
    let answer = call(program.listen, "first").expect("a call by TLS");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(WELL), "{answer}");
    for (offered, taken) in [(&["h2", "http/1.1"][..], &b"h2"[..]), (&["http/1.1"], b"http/1.1")] {
        let stream = connect(program.listen, "first", offered).expect("a handshake");
        assert_eq!(stream.conn.alpn_protocol(), Some(taken), "{offered:?}");
    }
    assert!(
        call(program.listen, "second").is_err(),
        "another certificate is not this one"
    );
    // Plain HTTP on the port is no call, and hurts nobody.
    let mut plain = TcpStream::connect(program.listen).expect("it listens");
    plain.set_read_timeout(Some(PATIENCE)).expect("a socket");
    plain.write_all(&super::post("plain")).expect("it reads");
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    assert!(!String::from_utf8_lossy(&heard).contains("200 OK"));
    assert!(call(program.listen, "first").is_ok());
    let rejected = program
        .scrape_at_rest()
        .sum("understudy_rejected_total", &[("reason", "tls")]);
    assert!(rejected >= 1.0, "handshakes that fail are counted: {rejected}");
    assert_eq!(upstream.count(), 2);
    program.terminate();
    assert!(home.rows().iter().all(|row| row.outcome == Outcome::Ok));
}

#[test]
fn a_client_that_leaves_by_tls_cancels_a_silent_upstream() {
    let (upstream, home, program) = serving();
    let mut stream = connect(program.listen, "first", &["http/1.1"]).expect("a handshake");
    stream
        .write_all(b"POST /silent HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: it\r\ncontent-length: 2\r\n\r\n{}")
        .expect("it reads");
    eventually("the request has come", || upstream.count() == 1);
    stream.conn.send_close_notify();
    let _ = stream.flush();
    drop(stream);
    eventually("the upstream call is cancelled", || upstream.closed().len() == 1);
    program.terminate();
    assert_eq!(home.row("it").outcome, Outcome::ClientClosed);
}

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_keeps_the_old() {
    let (_upstream, home, program) = serving();
    let failed = || program.scrape().sum("understudy_certificate_reload_failed", &[]);
    let mut open = connect(program.listen, "first", &["http/1.1"]).expect("a handshake");
    std::fs::write(home.path().join("server.pem"), "no certificate").expect("a writable folder");
    eventually("the bad one is noticed", || failed() == 1.0);
    eventually("it is said", || {
        let said = program.stderr();
        said.contains("certificate not reloaded") && said.contains("server.pem")
    });
    assert!(call(program.listen, "first").is_ok(), "the old one stays in force");
    // One half of the new pair is no pair.
    std::fs::copy(fixture("second.pem"), home.path().join("server.pem")).expect("a writable folder");
    eventually("they don't go together", || program.stderr().contains("server.key: "));
    assert!(call(program.listen, "first").is_ok());
    install(&home, "second");
    eventually("the new one is in force", || call(program.listen, "second").is_ok());
    assert_eq!(failed(), 0.0);
    open.write_all(&super::post("open")).expect("an open connection");
    let mut piece = [0; 4096];
    let read = open.read(&mut piece).expect("an answer");
    assert!(piece[..read].starts_with(b"HTTP/1.1 200"), "open connections live on");
    drop(open);
    program.terminate();
}

/// A forward proxy that opens one tunnel; the head of the request for it comes out.
fn forward_proxy(target: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let (told, heads) = channel();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a head");
            head.extend_from_slice(&byte);
        }
        let _ = told.send(String::from_utf8_lossy(&head).into_owned());
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("a client");
        let upstream = TcpStream::connect(target).expect("it listens");
        let (mut from, mut to) = (
            client.try_clone().expect("a socket"),
            upstream.try_clone().expect("a socket"),
        );
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (upstream, client);
        let _ = std::io::copy(&mut from, &mut to);
    });
    (address, heads)
}

#[test]
fn an_https_upstream_is_reached_through_the_forward_proxy_of_the_environment() {
    let (_upstream, _home, behind) = serving();
    let (proxy, heads) = forward_proxy(behind.listen);
    let home = Home::new();
    std::fs::copy(fixture("first.pem"), home.path().join("ca.pem")).expect("a writable folder");
    let port = behind.listen.port();
    home.write_config(&format!(
        "upstreams: {{ llm: {{ url: https://localhost:{port}, ca_file: ca.pem }} }}\n"
    ));
    let through = format!("http://ann:secret-of-ann@{proxy}");
    let front = home.serve(&["--config", "understudy.yaml"], &[("HTTPS_PROXY", &through)]);
    let answer = Request::post("/v1/chat/completions", "{}").send(front.listen);
    assert_eq!(
        (answer.status(), answer.text()),
        (200, WELL.to_owned()),
        "{}",
        front.stderr()
    );
    let head = heads.recv_timeout(PATIENCE).expect("it was asked for a tunnel");
    assert!(
        head.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(head.to_lowercase().contains("proxy-authorization: basic"), "{head}");
    assert!(!front.terminate().stderr.contains("secret-of-ann"));
    // The same without one.
    let exempt = [("HTTPS_PROXY", &*through), ("NO_PROXY", "localhost")];
    let front = home.serve(&["--config", "understudy.yaml"], &exempt);
    let answer = Request::post("/v1/chat/completions", "{}").send(front.listen);
    assert_eq!(
        answer.status(),
        200,
        "the proxy takes one tunnel, and that was not this one"
    );
}

#[test]
fn a_certificate_that_cant_be_used_is_an_error_at_the_start() {
    let upstream = Upstream::start(|_| well());
    let home = Home::new();
    let cases: [(&str, &str, &str); 5] = [
        ("first.pem", "", "tls.key: reading"),
        ("", "first.key", "tls.cert: reading"),
        ("first.key", "first.key", "no certificate in PEM form"),
        ("first.pem", "first.pem", "no private key in PEM form"),
        ("first.pem", "second.key", "server.key"),
    ];
    for (cert, key, words) in cases {
        for (file, of) in [("server.pem", cert), ("server.key", key)] {
            let _ = std::fs::remove_file(home.path().join(file));
            if !of.is_empty() {
                std::fs::copy(fixture(of), home.path().join(file)).expect("a writable folder");
            }
        }
        home.write_config(&config(&upstream));
        for arguments in [
            &["serve", "--config", "understudy.yaml", "--listen", "127.0.0.1:0"][..],
            &["check", "understudy.yaml"],
        ] {
            let output = home.run(arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{cert:?} {key:?} {arguments:?}: {said}");
            assert!(
                said.contains(words) && !said.contains("panicked"),
                "{cert:?} {key:?} {arguments:?}: {said}"
            );
        }
    }
}

#[test]
fn the_lab_itself_speaks_plain_http() {
    let lab = Lab::new("", |_| well());
    assert!(call(lab.address(), "first").is_err(), "TLS on a plain port");
    lab.assert_serves("TLS on a plain port");
}
