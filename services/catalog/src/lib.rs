//! The memory of the mesh: the database and every rule that must hold in one transaction.
