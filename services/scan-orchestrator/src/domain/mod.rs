//! The rules of scans: what may be asked for, and what a scan will do. Pure.

pub mod catalogue;
pub mod closest;
pub mod plan;
pub mod selection;
pub mod spec;
pub mod validate;
