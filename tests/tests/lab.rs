//! The fault lab: the cases of docs/faults.md by their numbers, each held against the same four oracles: what the client
//! sees, how many requests the upstream got, that there is exactly one record or one refusal counted, and that the next
//! good call passes.

mod answers;
mod behaviour;
mod content;
mod framing;
mod limits;
mod tls;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use understudy_call::record::CallRecord;
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Seen, Step, Upstream, head, reset};
use understudy_tests::{PATIENCE, eventually};

/// What every good answer of the lab's upstream ends with.
const WELL: &str = r#"{"ok":"yes"}"#;

/// A whole good answer.
fn well() -> Vec<Step> {
    let length = WELL.len().to_string();
    let head = head(
        200,
        &[("content-type", "application/json"), ("content-length", &length)],
    );
    vec![Step::Send([&head, WELL.as_bytes()].concat())]
}

/// The program before an upstream.
struct Lab {
    upstream: Upstream,
    home: Home,
    program: Program,
}

impl Lab {
    /// With an upstream that answers by `script`, and well at `/good`; `config` is added to the file.
    fn new(config: &str, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Lab {
        let upstream = Upstream::start(move |seen| match seen.head.path() {
            "/good" => well(),
            _ => script(seen),
        });
        let home = Home::new();
        let program = home.serve_config(&format!(
            "upstreams: {{ llm: {{ url: {} }} }}\n{config}",
            upstream.url()
        ));
        Lab {
            upstream,
            home,
            program,
        }
    }

    fn address(&self) -> SocketAddr {
        self.program.listen
    }

    /// An open connection with these bytes written.
    fn dial(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).expect("the program listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // It may answer and close before it has read all.
        let _ = stream.write_all(bytes);
        stream
    }

    /// What comes back for these bytes, until `enough` says so or the program closes.
    fn hear(&self, bytes: &[u8], enough: impl Fn(&str) -> bool) -> Heard {
        Heard::from(&mut self.dial(bytes), enough)
    }

    /// Requests that came to the upstream, but those of [`Lab::assert_serves`].
    fn seen(&self) -> Vec<Seen> {
        let mut seen = self.upstream.requests();
        seen.retain(|seen| seen.head.path() != "/good");
        seen
    }

    /// A good call passes, and all calls are accounted for.
    fn assert_serves(&self, case: &str) {
        let answer = Request::post("/good", "{}").send(self.address());
        assert_eq!((answer.status(), answer.text().as_str()), (200, WELL), "after {case}");
        assert_eq!(self.program.scrape_at_rest().unaccounted(), 0.0, "after {case}");
    }

    /// Serves still; then stops, and gives back the rows but those of good calls.
    fn finish(self, case: &str) -> Vec<CallRecord> {
        self.assert_serves(case);
        self.program.terminate();
        let mut rows = self.home.rows();
        rows.retain(|row| row.path.as_deref() != Some("/good"));
        rows
    }

    /// As [`Lab::finish`], where there was one call at the upstream; its row.
    fn finish_one(self, case: &str) -> CallRecord {
        assert_eq!(self.seen().len(), 1, "{case}: requests at the upstream");
        let mut rows = self.finish(case);
        assert_eq!(rows.len(), 1, "{case}: rows");
        rows.remove(0)
    }
}

/// What a client heard.
#[derive(Debug)]
struct Heard {
    text: String,
    /// The program closed the connection (and did not reset it).
    closed: bool,
}

impl Heard {
    fn from(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> Heard {
        let mut bytes = Vec::new();
        let mut piece = [0; 64 << 10];
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if enough(&text) {
                let text = text.into_owned();
                return Heard { text, closed: false };
            }
            match stream.read(&mut piece) {
                Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
                ended => {
                    let text = text.into_owned();
                    return Heard {
                        text,
                        closed: ended.is_ok(),
                    };
                }
            }
        }
    }

    /// The status of each answer.
    fn statuses(&self) -> Vec<u16> {
        let lines = self.text.split("HTTP/1.").skip(1);
        lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
    }
}

/// Nothing is enough: until the program closes.
fn all(_: &str) -> bool {
    false
}

/// One good answer is.
fn one_good(text: &str) -> bool {
    text.contains(WELL)
}

/// The shortest call, named by its case.
fn post(case: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: {case}\r\ncontent-length: 2\r\n\r\n{{}}")
        .into_bytes()
}

/// Closes as a program does that ends: by FIN, or by a reset.
fn leave(stream: TcpStream, by_reset: bool) {
    if by_reset {
        reset(stream);
    }
}

/// Closes the sending side alone.
fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("an open connection");
}

/// Waits until the upstream's side of a call is gone, and says how long that took after `then`.
fn cancelled(lab: &Lab, before: usize, then: std::time::Instant) -> std::time::Duration {
    eventually("the upstream call is cancelled", || {
        lab.upstream.closed().len() > before
    });
    lab.upstream.closed()[before].saturating_duration_since(then)
}
