//! What crosses services: contracts and end-to-end scans with real garak.
