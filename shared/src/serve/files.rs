//! How many files, connections included, this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files as far as the system lets this process, and returns it; nothing when there is none.
///
/// Systems start processes with a low limit (often 1024) for the sake of programs that use `select`; those that do not
/// are meant to raise it to the hard limit themselves.
pub(super) fn raise_limit() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let holds = if limit.current == limit.maximum || setrlimit(Resource::Nofile, wanted).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    holds.map(|files| usize::try_from(files).unwrap_or(usize::MAX))
}
