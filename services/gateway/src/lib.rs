//! The face of the mesh: HTTP/JSON, gRPC and gRPC-Web for everyone outside.
