//! The rules of artifacts: what is taken in, what is composed, what may be read.

pub mod checksum;
pub mod compose;
pub mod custom_source;
pub mod deposit;
pub mod download;
pub mod fault;
pub mod import;
pub mod indexes;
pub mod key;
pub mod name;
pub mod objects;
mod output;
pub mod reading;
pub mod registry;
pub mod repair;
pub mod scratch;
pub mod source;
pub mod upload;
