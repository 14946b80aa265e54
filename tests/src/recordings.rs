//! Recorded provider traffic and its oracle, which lie beside the repository, not in it.
//!
//! Never invents an exchange: without the recordings there is none, which is said, and is an error in CI.

use base64::Engine as _;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One recorded exchange.
#[derive(Debug)]
pub struct Exchange {
    /// `format/number`.
    pub name: String,
    /// Path and query, as a client sends them.
    pub path: String,
    /// Request headers, names in lower case.
    pub request_headers: Vec<(String, String)>,
    /// Request body.
    pub request: Vec<u8>,
    /// Response status.
    pub status: u16,
    /// Response headers, names in lower case.
    pub response_headers: Vec<(String, String)>,
    /// Response body.
    pub response: Vec<u8>,
    /// What a parser has to find in it.
    pub expected: Value,
}

/// All exchanges, or those of these formats; none where the recordings are missing.
pub fn exchanges(formats: Option<&[&str]>) -> Vec<Exchange> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/recordings"));
    if !folder.is_dir() {
        assert!(
            std::env::var_os("CI").is_none(),
            "the recordings are missing: {}",
            folder.display()
        );
        eprintln!("SKIPPED: no recordings at {}", folder.display());
        return Vec::new();
    }
    let formats = formats.map_or_else(
        || all_formats(&folder),
        |formats| formats.iter().map(|f| f.to_string()).collect(),
    );
    let mut exchanges: Vec<Exchange> = formats.iter().flat_map(|format| of_format(&folder, format)).collect();
    exchanges.sort_by(|a, b| a.name.cmp(&b.name));
    exchanges
}

fn all_formats(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a readable folder").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect()
}

fn of_format(folder: &Path, format: &str) -> Vec<Exchange> {
    let files = std::fs::read_dir(folder.join(format)).expect("a folder of recordings");
    let names = files.flatten().filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let number = name.strip_suffix(".json").filter(|name| !name.ends_with(".expect"))?;
        Some(format!("{format}/{number}"))
    });
    names.map(|name| exchange(folder, name)).collect()
}

fn exchange(folder: &Path, name: String) -> Exchange {
    let recorded = read_json(&folder.join(format!("{name}.json")));
    let (request, response) = (&recorded["request"], &recorded["response"]);
    Exchange {
        path: encoded(request["path"].as_str().expect("a path")),
        request_headers: headers(request),
        request: body(request),
        status: response["status"].as_u64().expect("a status") as u16,
        response_headers: headers(response),
        response: body(response),
        expected: read_json(&folder.join(format!("{name}.expect.json"))),
        name,
    }
}

/// A few recordings have a placeholder in pointed brackets, which clients send escaped.
fn encoded(path: &str) -> String {
    path.replace('<', "%3C").replace('>', "%3E")
}

fn headers(message: &Value) -> Vec<(String, String)> {
    let headers = message["headers"].as_object().into_iter().flatten();
    headers
        .map(|(name, value)| (name.clone(), value.as_str().expect("a header's text").to_owned()))
        .collect()
}

fn body(message: &Value) -> Vec<u8> {
    match message["body_b64"].as_str() {
        Some(encoded) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .expect("a body in base64"),
        None => message["body_text"].as_str().expect("a body of text").into(),
    }
}

fn read_json(file: &Path) -> Value {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
