//! Errors that say what to do. The advice is printed on a line of its own, below the chain of causes.

use std::fmt;

use anyhow::Context;

/// What went wrong, and what a person should do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    what: String,
    advice: String,
}

impl Problem {
    /// What went wrong, and what to do.
    pub(crate) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Problem {}

/// An error that has no cause below it.
pub(crate) fn problem(what: impl Into<String>, advice: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Problem::new(what, advice))
}

/// Puts what was being done, and advice, on top of an error.
pub(crate) trait Advise<T, E> {
    /// As `with_context`, with advice.
    fn advise(self, what: impl Into<String>, advice: impl Into<String>) -> anyhow::Result<T>;

    /// The same, with advice that depends on the error.
    fn advise_by(self, what: impl Into<String>, advice: impl FnOnce(&E) -> &'static str)
    -> anyhow::Result<T>;
}

impl<T, E> Advise<T, E> for Result<T, E>
where
    Self: Context<T, E>,
{
    fn advise(self, what: impl Into<String>, advice: impl Into<String>) -> anyhow::Result<T> {
        self.with_context(|| Problem::new(what, advice))
    }

    fn advise_by(
        self,
        what: impl Into<String>,
        advice: impl FnOnce(&E) -> &'static str,
    ) -> anyhow::Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => {
                let advice = advice(&error);
                Err(error).advise(what, advice)
            }
        }
    }
}

/// The error as it is printed: the chain of causes, then the advice that is nearest to what was asked for.
pub(crate) fn render(error: &anyhow::Error) -> String {
    bus_client::problem::render(error, error.downcast_ref::<Problem>().map(|problem| problem.advice.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_found_below_other_context_and_is_no_part_of_the_chain() {
        let low: Result<(), _> = Err(std::io::Error::other("disk on fire"));
        let error = low.advise("cannot read it", "call somebody\nsoon").context("cannot start").unwrap_err();
        assert_eq!(
            render(&error),
            "error: cannot start: cannot read it: disk on fire\nhint:  call somebody\n       soon"
        );
    }
}
