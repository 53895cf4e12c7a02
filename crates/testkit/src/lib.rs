//! Fixtures for tests: throw-away PostgreSQL and S3 servers, and a proxy that goes wrong.

mod guard;
pub mod postgres;
mod proxy;
mod s3;

pub use postgres::{Postgres, TestDatabase};
pub use proxy::{Direction, Mishap, Proxy};
pub use s3::{Keys, S3Server, policy};
