//! What both sides of Understudy speak: calls, their wire formats, kept records, features and task books.
//!
//! Pure: no input or output, no async, no clock. Whatever needs those takes values from here and hands values back.

pub mod account;
pub mod call;
pub mod check;
pub mod control;
mod dearer;
pub mod detector;
pub mod features;
pub mod frame;
pub mod guard;
pub mod keys;
pub mod nearest;
pub mod price;
mod recent;
pub mod record;
pub mod segment;
mod slower;
pub mod spool;
pub mod taskbook;
pub mod translate;
pub mod wire;
