//! Fixtures for tests: throw-away PostgreSQL, demo target, real-binary cluster.
