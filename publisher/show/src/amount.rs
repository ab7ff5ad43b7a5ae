//! Amounts as people say them.

/// `511 bytes`, `12.3 kB`, `58 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => scaled(bytes, 1_000, "kB"),
        1_000_000..1_000_000_000 => scaled(bytes, 1_000_000, "MB"),
        _ => scaled(bytes, 1_000_000_000, "GB"),
    }
}

fn scaled(bytes: u64, unit: u64, name: &str) -> String {
    let tenths = bytes / (unit / 10);
    if tenths < 1_000 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", tenths / 10)
    }
}

/// `812 ms`, `6.2 s`, `3 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
    }
}

/// `12 s`, `3 min`, `5 h`, `2 d`: how long ago something was.
pub fn age(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        3_600..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// `1 node`, `2 nodes`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// `pi-1, pi-2 and 3 more`: at most so many by name.
pub fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let named = names.take(most).collect::<Vec<_>>().join(", ");
    match more {
        0 => named,
        _ => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_say_them() {
        let sizes = [0, 1, 999, 1_000, 12_345, 999_999, 58_000_000, 580_000_000, 2_500_000_000].map(bytes);
        let expected =
            ["0 bytes", "1 byte", "999 bytes", "1.0 kB", "12.3 kB", "999 kB", "58.0 MB", "580 MB", "2.5 GB"];
        assert_eq!(sizes, expected);
        assert_eq!([0, 999, 6_250, 185_000].map(duration), ["0 ms", "999 ms", "6.2 s", "3 min 5 s"]);
        assert_eq!([59, 61, 7_200, 172_800].map(age), ["59 s", "1 min", "2 h", "2 d"]);
        assert_eq!(
            [2, 3].map(|most| names(["a", "b", "c"].into_iter(), most)),
            ["a, b and 1 more", "a, b, c"]
        );
        assert_eq!((count(1, "node"), count(0, "file")), ("1 node".into(), "0 files".into()));
    }
}
