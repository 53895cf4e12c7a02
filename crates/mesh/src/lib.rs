//! What every service of the mesh has: configuration, errors, server, channel, principal, telemetry, shutdown.
