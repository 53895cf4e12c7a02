//! The rules: what a scan may ask for, and what it becomes. Pure; knows no message and no service.

pub mod allowance;
pub mod catalogue;
pub mod creation;
pub mod credential;
pub mod custom;
pub mod detectors;
#[cfg(test)]
mod fixture;
pub mod lane;
pub mod limits;
pub mod names;
pub mod options;
pub mod plan;
pub mod requirement;
pub mod selection;
pub mod spec;
pub mod starters;
pub mod target;
pub mod template;
pub mod violation;
