//! An error with all its causes, as logs and faults show it.

use std::{error::Error, fmt::Write as _};

/// The error and its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::durable::DurableError;

    #[test]
    fn each_cause_is_said_once() {
        let source = io::Error::other("boom");
        let error = DurableError::Io { action: "read", path: "/x".into(), source };
        assert_eq!(chain(&error), "cannot read /x: boom");
    }
}
