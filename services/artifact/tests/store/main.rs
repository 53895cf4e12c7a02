//! One suite over every store: the directory, SeaweedFS, and JuiceFS's gateway.

mod bed;
mod breaking;
mod contract;
mod links;
mod listing;
mod objects;
mod rights;
mod room;
mod tls;
