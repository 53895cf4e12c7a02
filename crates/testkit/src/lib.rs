//! Fixtures for tests: throw-away PostgreSQL and S3 servers, a proxy that goes wrong, a disk that is
//! full, and what holds in the catalog's database after anything.

pub mod books;
mod disk;
mod guard;
pub mod postgres;
mod proxy;
mod s3;

pub use disk::Disk;
pub use guard::free_ports;
pub use postgres::{Postgres, TestDatabase};
pub use proxy::{Direction, Mishap, Proxy};
pub use s3::{Keys, S3Server, policy};
