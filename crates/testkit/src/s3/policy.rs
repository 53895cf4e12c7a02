//! What identities of the test's SeaweedFS may do besides its admin. Each has a bucket of its own,
//! which is not there at first.

use super::Keys;

/// Has the least policy that docs/object-store.md prints, for the bucket `aegis-least`.
pub const LEAST: Keys = Keys {
    access: "aegis-least",
    secret: "least-secret",
};

/// Has the same, but must not delete, for the bucket `aegis-no-delete`.
pub const NO_DELETE: Keys = Keys {
    access: "aegis-no-delete",
    secret: "no-delete-secret",
};

/// Has the same, but must not write, for the bucket `aegis-read-only`.
pub const READ_ONLY: Keys = Keys {
    access: "aegis-read-only",
    secret: "read-only-secret",
};

/// The identities, and what is taken from the documented policy of each at first.
pub(super) const LIMITED: [(Keys, &str); 3] = [
    (LEAST, NOTHING),
    (NO_DELETE, "DeleteObject"),
    (READ_ONLY, "PutObject"),
];

/// No action.
const NOTHING: &str = "Nothing";

/// The policy in the documentation, as JSON, for the bucket `aegis-reports`.
pub fn documented() -> &'static str {
    let page = include_str!("../../../../docs/object-store.md");
    let (_, after) = page.split_once("```json\n").expect("the page has a policy");
    let (policy, _) = after.split_once("```").expect("the policy has an end");
    policy
}

/// The documented policy for another bucket, without an action.
pub(super) fn without(bucket: &str, action: &str) -> String {
    let policy = documented().replace("aegis-reports", bucket);
    // An action that is none in its place, so that no comma is left over.
    policy.replace(&format!("\"s3:{action}\""), "\"s3:GetObjectTorrent\"")
}
