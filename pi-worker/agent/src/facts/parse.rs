//! How the kernel spells what it says.

/// Hottest and coldest that a sensor in working order says.
const PLAUSIBLE_C: std::ops::RangeInclusive<f64> = -50.0..=200.0;

/// A name out of the device tree or DMI; the former ends in a NUL.
pub(super) fn name(text: &str) -> String {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).chars().filter(|c| !c.is_control()).collect()
}

/// Whole seconds out of `/proc/uptime`.
pub(super) fn uptime(text: &str) -> Option<u64> {
    text.split(['.', ' ']).next()?.parse().ok()
}

/// Bytes of `MemAvailable` out of `/proc/meminfo`.
pub(super) fn memory_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Degrees out of a thermal zone, which says thousandths.
pub(super) fn temperature(text: &str) -> Option<f64> {
    let degrees = f64::from(text.trim().parse::<i32>().ok()?) / 1_000.0;
    PLAUSIBLE_C.contains(&degrees).then(|| (degrees * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_pi_says() {
        assert_eq!(name("Raspberry Pi 4 Model B Rev 1.4\0"), "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(uptime("350735.47 234388.90\n"), Some(350_735));
        let meminfo = "MemTotal:        3884360 kB\nMemFree:  90 kB\nMemAvailable:    3302416 kB\n";
        assert_eq!(memory_available(meminfo), Some(3_302_416 * 1024));
        assert_eq!(temperature("48686\n"), Some(48.7));
    }

    #[test]
    fn what_is_not_there_or_not_plausible_is_nothing() {
        assert_eq!(name("\0\n"), "");
        assert_eq!(uptime(""), None);
        assert_eq!(memory_available("MemTotal: 3 kB"), None);
        assert_eq!(memory_available("MemAvailable: 99999999999999999999 kB"), None);
        for text in ["", "hot", "-273150", "999999"] {
            assert_eq!(temperature(text), None, "{text}");
        }
    }
}
