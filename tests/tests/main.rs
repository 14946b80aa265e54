//! Integration tests: the real program between a raw client and fake upstreams, one file per feature.
//!
//! Never looks inside the program: only at its ports, its files, its signals and its stderr.

mod audit;
mod canary;
mod capture;
mod demo;
mod dependencies;
mod faults;
mod framing;
mod offline;
mod recordings;
mod secrets;
