//! What both sides of Understudy speak: calls, their wire formats, kept records, features and task books.
//!
//! Pure: no input or output, no async, no clock. Whatever needs those takes values from here and hands values back.

pub mod call;
pub mod features;
pub mod record;
pub mod taskbook;
