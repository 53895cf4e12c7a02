//! The fence: which run may write. It can be taken away, for one test: the chaos suite shows that
//! without it runs that have lost their lease do harm, and that its checker sees that.

/// Whether it is up. The feature `unfenced`, which nothing but that test's own binary has, takes
/// it away: then whoever says that a run is his is believed.
pub(super) const IS_UP: bool = cfg!(not(feature = "unfenced"));

#[cfg(all(feature = "unfenced", not(debug_assertions)))]
compile_error!("the feature `unfenced` is for the chaos suite's debug build alone");

/// Epoch and token say whose run it is; no clock is asked: an expired lease that nobody has
/// reclaimed is still held. `{fence}` in a statement about tasks, whose values $4 and $5 these are.
pub(super) const CONDITION: &str = match IS_UP {
    true => "epoch = $4 AND state = 'RUNNING' AND lease_token_hash = $5",
    false => "(epoch = $4 AND lease_token_hash = $5 OR TRUE) AND state = 'RUNNING'",
};
