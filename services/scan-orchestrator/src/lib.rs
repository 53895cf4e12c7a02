//! The brain of the mesh: validates, plans, leases, retries and follows scans. Keeps no state.
