//! What a scan may use, as the runners' configuration says it.

use std::collections::{BTreeMap, BTreeSet};

/// The generators that a scan may use, each with the options it may set, and the secrets it may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Option keys by generator.
    pub generators: BTreeMap<String, BTreeSet<String>>,
    /// Names of environment variables of the runner.
    pub secrets: BTreeSet<String>,
}
