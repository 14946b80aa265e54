//! Integration tests: the real program between a raw client and fake upstreams, one file per feature.
//!
//! Never looks inside the program: only at its ports, its files, its signals and its stderr.

mod audit;
mod calibration;
mod canary;
mod candidates;
mod capture;
mod cascade;
mod content;
mod demo;
mod dependencies;
mod encodings;
mod endure;
mod erase;
mod fallback;
mod faults;
mod first_steps;
mod forms;
mod framing;
mod jobs;
mod lab;
mod naming;
mod offline;
mod page;
mod paths;
mod recordings;
mod rehearsal;
mod rehearsed_apis;
mod rollout;
mod secrets;
mod security;
mod shadow;
mod shortlist;
mod sockets;
mod specialise;
mod stores;
mod translated;
mod turns;
mod usage;
mod vault;
