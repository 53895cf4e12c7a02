//! The hands of the mesh: runs garak, one probe at a time, and meets the target.
