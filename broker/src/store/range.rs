//! The Range header: one range of bytes (RFC 9110, 14). Pure.

/// Bytes `start..end` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first byte.
    pub(super) start: u64,
    /// Behind the last byte.
    pub(super) end: u64,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole file.
    Whole,
    /// A part.
    Part(Span),
    /// A part that the file does not have.
    Unsatisfiable,
}

impl Span {
    /// How many bytes that is.
    pub(super) fn length(self) -> u64 {
        self.end - self.start
    }
}

impl Wanted {
    /// Reads the header for a file of `size` bytes. What is malformed, or asks for several ranges, means the whole file.
    pub(super) fn parse(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header.and_then(|h| h.trim().strip_prefix("bytes=")?.split_once('-'))
        else {
            return Self::Whole;
        };
        let span = match (first.trim(), last.trim()) {
            ("", suffix) => suffix.parse().map(|length: u64| (size.saturating_sub(length), size)),
            (start, "") => start.parse().map(|start| (start, size)),
            (start, last) => match (start.parse::<u64>(), last.parse::<u64>()) {
                (Ok(start), Ok(last)) if start > last => return Self::Whole,
                (Ok(start), Ok(last)) => Ok((start, last.saturating_add(1).min(size))),
                (Err(err), _) | (_, Err(err)) => Err(err),
            },
        };
        match span {
            Ok((start, end)) if start < end => Self::Part(Span { start, end }),
            Ok(_) => Self::Unsatisfiable,
            Err(_malformed) => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let part = |start, end| Wanted::Part(Span { start, end });
        for (header, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=5-", part(5, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-30", part(0, 10)),
            ("bytes=2-99", part(2, 10)),
            ("bytes=2-18446744073709551615", part(2, 10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=x-1", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(Wanted::parse(Some(header), 10), expected, "{header}");
        }
        assert_eq!(Wanted::parse(None, 10), Wanted::Whole);
        assert_eq!(Wanted::parse(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
