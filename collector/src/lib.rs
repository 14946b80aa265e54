//! The cold path: ingest, mask, table, store, tasks, rehearsals, verdicts, data sets.
//!
//! May be slow, wrong or restarted without a call noticing; never imports the proxy.

pub mod answer;
pub mod audit;
pub mod audit_log;
pub mod books;
pub mod candidates;
pub mod cascade;
pub mod cluster;
pub mod compact;
pub mod compare;
pub mod control;
pub mod dataset;
pub mod drift;
pub mod erase;
pub mod evidence;
pub mod feedback;
pub mod import;
pub mod ingest;
pub mod job;
pub mod mask;
pub mod metrics;
pub mod naming;
pub mod replay;
pub mod rollout;
pub mod row;
pub mod scan;
pub mod score;
pub mod shadow;
pub mod specialise;
pub mod store;
pub mod table;
pub mod tally;
pub mod thread;
pub mod vault;
pub mod verdict;
pub mod web;
