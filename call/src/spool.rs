//! What lies in a spool's folder besides the bytes of segments: names, and how far a collector has come.
//!
//! Both sides know these; nothing here touches a disk.

use crate::account::{Numbers, Tally};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Held by the one writer, for as long as it lives.
pub const WRITER_LOCK: &str = "writer.lock";
/// Held by the one collector.
pub const COLLECTOR_LOCK: &str = "collector.lock";
/// The collector's [`Position`], as JSON.
pub const POSITION: &str = "collector.json";
/// The folder of further readers, each a folder of its own: the writer links each new segment into all of them, so that
/// every reader has its own position and deletes its own links.
pub const READERS: &str = "readers";
/// The segment in this file is to be ended, so that what is in it can go: a collector asks for that, and the writer does it
/// within seconds and takes the file away.
pub const END_SEGMENT: &str = "end-segment";
/// File extension of segments.
pub const SEGMENT_EXTENSION: &str = "seg";

/// A put that is journalled and not known to have succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pending {
    /// Offset of the first frame.
    pub from: u64,
    /// Offset after the last frame.
    pub to: u64,
    /// Number of the first row in its segment.
    pub first: u64,
    /// Number of the last row.
    pub last: u64,
    /// Numbers of all frames in it. A journal of the previous version has none: its frames are those of the range.
    pub numbers: Numbers,
}

/// The frames `stored` of `segment` are stored; so are all segments that came before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Whose position it is: an id that stays with the folder.
    pub id: String,
    /// The segment that is being read.
    pub segment: Option<String>,
    /// Where the next frame begins, unless the file was tampered with.
    pub offset: u64,
    /// Rows of this segment stored so far.
    pub row: u64,
    /// Numbers of its frames that are stored. A journal of the previous version has none: there it is all before `offset`.
    pub stored: Numbers,
    /// A put under way.
    pub pending: Option<Pending>,
    /// Records given up so far, by the boot that they are of and the reason.
    pub evicted: BTreeMap<String, BTreeMap<String, Tally>>,
    /// Segments stored to their end, the latest last: a copy of one that turns up again is not stored again.
    pub finished: Vec<String>,
}
