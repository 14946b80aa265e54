//! The commands, one file each; each prints rows on stdout and words on stderr.

pub(crate) mod audit;
pub(crate) mod bypass;
pub(crate) mod calls;
pub(crate) mod candidates;
pub(crate) mod check;
pub(crate) mod cycle;
pub(crate) mod erase;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod feedback;
pub(crate) mod import;
pub(crate) mod job;
pub(crate) mod keys;
pub(crate) mod mask;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod rollout;
pub(crate) mod specialise;
pub(crate) mod tasks;
pub(crate) mod verdict;
pub(crate) mod worker;
