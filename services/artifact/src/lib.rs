//! The warehouse of the mesh: report bytes, their tallies and indexes.
