//! A fake S3 that keeps objects in memory and misbehaves on cue.
//!
//! Knows as much of S3 as the program asks of it; checks no signature.

use crate::upstream::{Seen, Step, Upstream, head};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use understudy_collector::store::Store;

/// The one bucket.
const BUCKET: &str = "calls-of-agents";
/// A key that must never be told.
pub const SECRET: &str = "secret-key-canary";
/// A session's token that must never be told.
pub const TOKEN: &str = "session-token-canary";

/// How the store misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, code and message.
    Refuses(u16, &'static str, &'static str),
    /// It never answers.
    Hangs,
    /// It answers a byte a second.
    Slow,
    /// It keeps the first half of what is put, and resets the connection.
    Tears,
    /// It does what is asked, and closes the connection instead of answering.
    LosesAnswers,
}

/// The store; clones are the same one.
#[derive(Clone)]
pub struct Objects {
    server: Arc<Upstream>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    fault: Mutex<Option<Fault>>,
}

impl Default for Objects {
    fn default() -> Objects {
        Objects::start()
    }
}

impl Objects {
    /// An empty one that does what it is asked.
    pub fn start() -> Objects {
        let shared = Arc::new(Shared::default());
        let answering = shared.clone();
        Objects {
            server: Arc::new(Upstream::start(move |seen| answering.answer(seen))),
            shared,
        }
    }

    /// From now on; `None` = it works again.
    pub fn misbehave(&self, fault: Option<Fault>) {
        *lock(&self.shared.fault) = fault;
    }

    /// Where it is, for `data`.
    pub fn location(&self) -> String {
        format!("s3://{BUCKET}/team")
    }

    /// How to reach it; a request gives up after two seconds.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.server.url()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "understudy".into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_SESSION_TOKEN", TOKEN.into()),
            ("AWS_DISABLE_BULK_DELETE", "true".into()),
            ("AWS_TIMEOUT", "2s".into()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// It, as the program opens it.
    pub fn store(&self) -> Store {
        Store::open_with(&self.location(), self.variables()).expect("the location of a store")
    }

    /// How many puts it was asked for.
    pub fn puts(&self) -> usize {
        let requests = self.server.requests();
        requests
            .iter()
            .filter(|seen| seen.head.start.starts_with("PUT "))
            .count()
    }
}

impl Shared {
    fn answer(&self, seen: &Seen) -> Vec<Step> {
        let fault = *lock(&self.fault);
        match fault {
            None => vec![Step::Send(self.perform(seen))],
            Some(Fault::Refuses(status, code, message)) => {
                let token = seen.head.header("x-amz-security-token").unwrap_or_default();
                let body =
                    format!("<Error><Code>{code}</Code><Message>{message}</Message><Token-0>{token}</Token-0></Error>");
                vec![Step::Send(whole(status, &[], body.as_bytes()))]
            }
            Some(Fault::Hangs) => vec![Step::Hang],
            Some(Fault::Slow) => {
                let answer = self.perform(seen);
                let bytes = answer.into_iter().map(|byte| Step::Send(vec![byte]));
                bytes
                    .flat_map(|send| [send, Step::Pause(Duration::from_secs(1))])
                    .collect()
            }
            Some(Fault::Tears) => {
                if seen.head.start.starts_with("PUT ") {
                    let (key, _) = key_and_query(seen);
                    let half = seen.body[..seen.body.len() / 2].to_vec();
                    lock(&self.objects).insert(key, half);
                }
                vec![Step::Reset]
            }
            Some(Fault::LosesAnswers) => {
                self.perform(seen);
                vec![Step::Close]
            }
        }
    }

    fn perform(&self, seen: &Seen) -> Vec<u8> {
        let mut objects = lock(&self.objects);
        let (key, query) = key_and_query(seen);
        let stamps = [("etag", "\"e\""), ("last-modified", "Sat, 21 Nov 2026 07:00:00 GMT")];
        match seen.head.start.split(' ').next().unwrap_or_default() {
            "PUT" if seen.head.header("if-none-match") == Some("*") && objects.contains_key(&key) => {
                whole(412, &[], b"<Error><Code>PreconditionFailed</Code></Error>")
            }
            "PUT" if !seen.complete => whole(400, &[], b"<Error><Code>IncompleteBody</Code></Error>"),
            "PUT" => {
                objects.insert(key, seen.body.clone());
                whole(200, &stamps, b"")
            }
            "DELETE" => {
                objects.remove(&key);
                whole(204, &[], b"")
            }
            _ if query.contains_key("list-type") => {
                let prefix = query.get("prefix").cloned().unwrap_or_default();
                let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
                let entries: String = found.map(|(key, bytes)| entry(key, bytes.len())).collect();
                let list = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>");
                whole(200, &[], list.as_bytes())
            }
            _ => match objects.get(&key) {
                Some(bytes) => whole(200, &stamps, bytes),
                None => whole(404, &[], b"<Error><Code>NoSuchKey</Code></Error>"),
            },
        }
    }
}

fn entry(key: &str, size: usize) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>e</ETag>\
         <LastModified>2026-11-21T07:00:00.000Z</LastModified></Contents>"
    )
}

fn whole(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("content-length", &*length)]).collect();
    [&head(status, &headers), body].concat()
}

/// The key below the bucket, and the query, both decoded.
fn key_and_query(seen: &Seen) -> (String, BTreeMap<String, String>) {
    let (path, query) = seen.head.path().split_once('?').unwrap_or((seen.head.path(), ""));
    let path = decoded(path);
    let key = path
        .trim_start_matches('/')
        .trim_start_matches(BUCKET)
        .trim_start_matches('/');
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
    (key.to_owned(), query)
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
