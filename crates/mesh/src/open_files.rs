//! How many files a process may have open. Each connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a service asks for, if it may: shells and service managers give 1024, for programs that use
/// select(2), which ours are not (<https://0pointer.net/blog/file-descriptor-limits.html>).
const WANTED: u64 = 65_536;

/// Raises the soft limit towards the hard one. What cannot be had is no fault: the limit that there
/// is shows in errors of those who meet it.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = WANTED.min(hard);
        match soft < wanted {
            true => setrlimit(Resource::RLIMIT_NOFILE, wanted, hard),
            false => Ok(()),
        }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        raise_open_files();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft >= WANTED.min(hard), "{soft} of {hard}");
    }
}
