//! The gateway over TCP, in front of a fake mesh (`fake`), as its clients see it.

mod artifacts;
mod bounds;
mod errors;
mod fake;
mod grpc;
mod grpc_web;
mod guards;
mod health;
mod routes;
mod streams;
mod trace;
mod world;
