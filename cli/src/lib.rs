//! The aegis command: a client of the mesh, and the whole mesh in one process.
