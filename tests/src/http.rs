//! HTTP/1.1 by hand, for both ends of a test: what travelled, byte for byte, and whether a message was complete.
//!
//! Never repairs anything: a message cut short is told from a whole one.

use crate::PATIENCE;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Headers that end at each hop, and framing, which each hop makes anew.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The start line and headers of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The first line, without its end.
    pub start: String,
    /// Header lines in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// All bytes up to the empty line, which is included.
    pub raw: Vec<u8>,
}

impl Head {
    /// The value of the first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }

    /// A response's status.
    pub fn status(&self) -> u16 {
        let word = self.start.split(' ').nth(1).unwrap_or_default();
        word.parse().unwrap_or_else(|_| panic!("no status in {:?}", self.start))
    }

    /// A request's path and query.
    pub fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// All headers but those of one hop, values in order within one name.
    pub fn end_to_end(&self) -> BTreeMap<String, Vec<String>> {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.headers {
            if !HOP_BY_HOP.contains(&name.as_str()) {
                headers.entry(name.clone()).or_default().push(value.clone());
            }
        }
        headers
    }

    fn request_framing(&self) -> Framing {
        if self.is_chunked() {
            Framing::Chunked
        } else {
            Framing::Length(self.content_length().unwrap_or(0))
        }
    }

    fn response_framing(&self, of_method: &str) -> Framing {
        if of_method == "HEAD" || matches!(self.status(), 100..=199 | 204 | 304) {
            Framing::Length(0)
        } else if self.is_chunked() {
            Framing::Chunked
        } else {
            self.content_length().map_or(Framing::UntilClosed, Framing::Length)
        }
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

/// One connection and what was read ahead on it.
#[derive(Debug)]
pub struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    /// Of an open connection; reads and writes give up after [`PATIENCE`].
    ///
    /// # Errors
    /// Where the system refuses the options.
    pub fn new(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire {
            reader: BufReader::with_capacity(64 << 10, stream),
        })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        Wire::new(TcpStream::connect(address)?)
    }

    /// Writes all of it, at once.
    ///
    /// # Errors
    /// As the connection's.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_ref().write_all(bytes)
    }

    /// Reads so many bytes, whatever they are.
    ///
    /// # Errors
    /// As the connection's, and where it ends before.
    pub fn read_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes back all that comes, until the peer closes.
    pub fn echo(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = self.reader.read(&mut bytes) {
            if self.write(&bytes[..read]).is_err() {
                return;
            }
        }
    }

    /// Waits until the peer closes or resets, whatever it sends before.
    pub fn wait_until_closed(&mut self) {
        let mut ignored = [0; 4096];
        while self.reader.read(&mut ignored).is_ok_and(|read| read > 0) {}
    }

    /// The connection itself.
    pub fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }

    /// Reads a head; `None` where the peer closed instead of sending one.
    ///
    /// # Errors
    /// As the connection's, and where it ends inside the head.
    pub fn read_head(&mut self) -> io::Result<Option<Head>> {
        let mut head = Head::default();
        loop {
            let line = self.read_line(&mut head.raw)?;
            match line {
                None if head.raw.is_empty() => return Ok(None),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(line) if line.is_empty() => return Ok(Some(head)),
                Some(line) if head.start.is_empty() => head.start = line,
                Some(line) => {
                    let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                    head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
            }
        }
    }

    /// Reads a whole request; `None` where the peer closed instead. False = its body was cut short.
    ///
    /// # Errors
    /// As the connection's while the head is read.
    pub fn read_request(&mut self) -> io::Result<Option<(Head, Vec<u8>, bool)>> {
        let Some(head) = self.read_head()? else {
            return Ok(None);
        };
        if head.header("expect") == Some("100-continue") {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut framing = head.request_framing();
        let mut body = Vec::new();
        let complete = loop {
            match self.read_piece(&mut framing, &mut body) {
                Ok(true) => {}
                Ok(false) => break true,
                Err(_) => break false,
            }
        };
        Ok(Some((head, body, complete)))
    }

    /// A line without its end, which is added to `raw` as it came; `None` at the end of the connection.
    fn read_line(&mut self, raw: &mut Vec<u8>) -> io::Result<Option<String>> {
        let before = raw.len();
        self.reader.read_until(b'\n', raw)?;
        let line = String::from_utf8_lossy(&raw[before..]);
        Ok(line
            .strip_suffix('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned()))
    }

    /// Adds the next piece of a body; false once the body has come to its proper end.
    fn read_piece(&mut self, framing: &mut Framing, body: &mut Vec<u8>) -> io::Result<bool> {
        match framing {
            Framing::Length(0) => Ok(false),
            Framing::Length(left) => {
                let read = self
                    .reader
                    .by_ref()
                    .take((*left).min(64 << 10))
                    .read_to_end_once(body)?;
                *left -= read as u64;
                Ok(true)
            }
            Framing::UntilClosed => match self.reader.by_ref().take(64 << 10).read_to_end_once(body) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
                read => read.map(|_| true),
            },
            Framing::Chunked => self.read_chunk(body),
        }
    }

    fn read_chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let cut_short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let line = self.read_line(&mut Vec::new())?.ok_or_else(cut_short)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("no chunk size: {line:?}")))?;
        if size == 0 {
            // Trailers, if any, up to the empty line.
            while !self.read_line(&mut Vec::new())?.ok_or_else(cut_short)?.is_empty() {}
            return Ok(false);
        }
        let before = body.len();
        body.resize(before + size, 0);
        if let Err(error) = self.reader.read_exact(&mut body[before..]) {
            body.truncate(before);
            return Err(error);
        }
        let end = self.read_line(&mut Vec::new())?.ok_or_else(cut_short)?;
        if end.is_empty() {
            Ok(true)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "no line end after a chunk"))
        }
    }
}

/// One read of what is there, added to a buffer; the end of the connection is an error.
trait ReadToEndOnce {
    fn read_to_end_once(self, body: &mut Vec<u8>) -> io::Result<usize>;
}

impl<R: BufRead> ReadToEndOnce for io::Take<R> {
    fn read_to_end_once(mut self, body: &mut Vec<u8>) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let read = piece.len();
        body.extend_from_slice(piece);
        self.consume(read);
        if read == 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(read)
        }
    }
}

/// A request as a client writes it: `content-length` and `host` are added where missing.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cuts: Vec<usize>,
}

impl Request {
    /// A request of any method, without a body.
    pub fn new(method: &str, path: &str) -> Request {
        Request {
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// A GET.
    pub fn get(path: &str) -> Request {
        Request::new("GET", path)
    }

    /// A POST of a JSON body, given as text.
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Request {
        Request::new("POST", path)
            .header("content-type", "application/json")
            .body(body)
    }

    /// Sends it to another path.
    pub fn to(mut self, path: &str) -> Request {
        self.path = path.into();
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// Writes the body in pieces that end at these offsets, in order, and the rest in one.
    pub fn cut(mut self, cuts: Vec<usize>) -> Request {
        self.cuts = cuts;
        self
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends it on a connection of its own and reads the answer's head.
    ///
    /// # Errors
    /// Where no head comes back.
    pub fn try_open(&self, address: SocketAddr) -> io::Result<Open> {
        let mut wire = Wire::connect(address)?;
        // A peer may answer and close before it has read all: its answer counts.
        let written = self.write(&wire, address);
        let head = match (wire.read_head(), written) {
            (Ok(Some(head)), _) => head,
            (_, Err(error)) | (Err(error), _) => return Err(error),
            (Ok(None), _) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let framing = head.response_framing(&self.method);
        Ok(Open {
            wire,
            framing,
            head,
            body: Vec::new(),
        })
    }

    fn write(&self, wire: &Wire, address: SocketAddr) -> io::Result<()> {
        let bytes = self.bytes(address);
        let body = bytes.len() - self.body.len();
        let mut written = 0;
        for end in self.cuts.iter().map(|cut| body + cut).chain([bytes.len()]) {
            wire.write(&bytes[written..end])?;
            written = end;
        }
        Ok(())
    }

    /// As [`Request::try_open`]; panics where no head comes back.
    pub fn open(&self, address: SocketAddr) -> Open {
        self.try_open(address)
            .unwrap_or_else(|error| panic!("no answer to {} {}: {error}", self.method, self.path))
    }

    /// Sends it and reads the whole answer; panics where no head comes back.
    pub fn send(&self, address: SocketAddr) -> Answer {
        self.open(address).finish()
    }
}

/// An answer whose head has come.
#[derive(Debug)]
pub struct Open {
    wire: Wire,
    framing: Framing,
    /// Its head.
    pub head: Head,
    /// What came of its body so far, without framing.
    pub body: Vec<u8>,
}

impl Open {
    /// Reads until the body holds `text`; panics where it ends before.
    pub fn read_until(&mut self, text: &str) {
        while !crate::contains(&self.body, text) {
            let more = self.wire.read_piece(&mut self.framing, &mut self.body);
            let so_far = String::from_utf8_lossy(&self.body);
            assert!(
                matches!(more, Ok(true)),
                "the answer ended ({more:?}) before {text:?} came: {so_far}"
            );
        }
    }

    /// Reads until so many bytes of the body have come; panics where they don't.
    pub fn read_bytes(&mut self, count: usize) {
        while self.body.len() < count {
            let more = self.wire.read_piece(&mut self.framing, &mut self.body);
            assert!(
                matches!(more, Ok(true)),
                "the answer ended ({more:?}) after {} bytes",
                self.body.len()
            );
        }
    }

    /// Reads the rest.
    pub fn finish(mut self) -> Answer {
        let complete = loop {
            match self.wire.read_piece(&mut self.framing, &mut self.body) {
                Ok(true) => {}
                Ok(false) => break true,
                Err(_) => break false,
            }
        };
        Answer {
            complete: complete && self.framing != Framing::UntilClosed,
            head: self.head,
            body: self.body,
        }
    }
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, without framing.
    pub body: Vec<u8>,
    /// Whether its framing says that this is all.
    pub complete: bool,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON; panics where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }
}
