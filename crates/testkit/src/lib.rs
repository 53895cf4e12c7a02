//! Fixtures for tests: throw-away PostgreSQL, demo target, real-binary cluster.

pub mod postgres;

pub use postgres::{Postgres, TestDatabase};
