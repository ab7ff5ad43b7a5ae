//! `.dockerignore`: which files of a tree are no part of what an image is built of. Pure.
//!
//! The engine does not apply it to a context that is sent to it; the `docker` command does, by the same rules as here.

/// The rules of a `.dockerignore`; the last one that matches a path or a folder above it counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Ignore(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    /// It begins with `!`: what it matches is taken after all.
    takes: bool,
}

impl Ignore {
    /// The file's name; it lies at the top of the tree.
    pub(super) const NAME: &str = ".dockerignore";

    pub(super) fn parse(text: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (takes, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let segments = pattern.split('/').filter(|segment| !matches!(*segment, "" | "."));
            let pattern = segments.collect::<Vec<_>>().join("/");
            (!pattern.is_empty()).then_some(Rule { pattern, takes })
        };
        Self(text.lines().filter_map(rule).collect())
    }

    /// Whether `path` is left out.
    pub(super) fn leaves_out(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let above: Vec<&str> = ends.map(|end| &path[..end]).collect();
        let mut left_out = false;
        for rule in &self.0 {
            if left_out == rule.takes && above.iter().any(|path| matches(&rule.pattern, path)) {
                left_out = !rule.takes;
            }
        }
        left_out
    }
}

/// Whether a pattern is the whole path: `*` and `?` stay in one segment, `**` does not.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    glob(pattern.as_bytes(), path.as_bytes())
}

fn glob(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', b'/', rest @ ..] => {
            glob(rest, path) || (0..path.len()).any(|at| path[at] == b'/' && glob(rest, &path[at + 1..]))
        }
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| glob(rest, &path[at..])),
        [b'*', rest @ ..] => {
            let segment = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=segment).any(|at| glob(rest, &path[at..]))
        }
        [b'?', rest @ ..] => path.first().is_some_and(|byte| *byte != b'/') && glob(rest, &path[1..]),
        [b'[', rest @ ..] => class(rest, path),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            path.first() == Some(literal) && glob(rest, &path[1..])
        }
    }
}

/// What follows a `[`.
fn class(pattern: &[u8], path: &[u8]) -> bool {
    let (Some(end), Some(byte)) = (pattern.iter().skip(1).position(|b| *b == b']'), path.first()) else {
        return false;
    };
    let (mut set, rest) = (&pattern[..=end], &pattern[end + 2..]);
    let is_negated = matches!(set.first(), Some(b'^' | b'!'));
    if is_negated {
        set = &set[1..];
    }
    let mut is_in = false;
    while let [first, more @ ..] = set {
        let (last, behind) = match more {
            [b'-', last, behind @ ..] => (last, behind),
            _ => (first, more),
        };
        is_in |= (first..=last).contains(&byte);
        set = behind;
    }
    is_in != is_negated && *byte != b'/' && glob(rest, &path[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_the_docker_command() {
        let ignore =
            Ignore::parse("# comment\n*.md\n!README.md\n/docs/\n**/*.pyc\ntemp?\n!docs/keep\n./a//b\n");
        for (path, left_out) in [
            ("CHANGES.md", true),
            ("README.md", false),
            ("src/x.md", false),
            ("docs", true),
            ("docs/a/b", true),
            ("docs/keep", false),
            ("x.pyc", true),
            ("a/c/x.pyc", true),
            ("temp1", true),
            ("temp", false),
            ("a/b", true),
            ("a", false),
        ] {
            assert_eq!(ignore.leaves_out(path), left_out, "{path}");
        }
        assert!(!Ignore::default().leaves_out("anything"));
    }

    #[test]
    fn the_last_rule_that_matches_counts() {
        assert!(Ignore::parse("!a\n*").leaves_out("a"));
        assert!(!Ignore::parse("*\n!a").leaves_out("a"));
        assert!(!Ignore::parse("*\n!src").leaves_out("src/app.py"));
        assert!(Ignore::parse("**").leaves_out("a/b"));
    }

    #[test]
    fn patterns_stay_in_their_segment() {
        for (pattern, path, matched) in [
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("a/**", "a/b/c", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[ab", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("requirements*.txt", "requirements-dev.txt", true),
        ] {
            assert_eq!(matches(pattern, path), matched, "{pattern} {path}");
        }
    }
}
