//! Which of an index's images is for this machine.
//!
//! Pure but for the one question to the processor. An image of another architecture is never taken: it would only show
//! as an exec format error much later.

use super::wire::PlatformField;
use std::fmt;

/// What this machine runs: the operating system is Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: &'static str,
    /// The highest variant that the processor can run: 1 to 4 for amd64 (x86-64-v1...), 8 for arm64.
    pub level: u32,
}

impl Platform {
    pub fn host() -> Platform {
        if cfg!(target_arch = "aarch64") {
            Platform { architecture: "arm64", level: 8 }
        } else {
            Platform { architecture: "amd64", level: amd64_level() }
        }
    }

    /// How well `other` fits: higher is better, `None` is not at all. A field that is left out fits.
    pub fn fit(&self, other: &PlatformField) -> Option<u32> {
        let os_ok = matches!(other.os.as_str(), "" | "linux");
        let architecture = match other.architecture.as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            name => name,
        };
        if !os_ok || !(architecture.is_empty() || architecture == self.architecture) {
            return None;
        }
        let base = if self.architecture == "arm64" { 8 } else { 1 };
        let level = match other.variant.strip_prefix('v') {
            None if other.variant.is_empty() => base,
            None => return None,
            // ARM variants have minor versions, such as v8.2.
            Some(number) => number.split('.').next()?.parse().ok()?,
        };
        (level <= self.level).then_some(level)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture)
    }
}

impl fmt::Display for PlatformField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        write!(f, "{}/{}", or_unknown(&self.os), or_unknown(&self.architecture))?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// The levels of the x86-64 psABI.
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> u32 {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("cmpxchg16b") && has!("popcnt") && has!("ssse3") && has!("sse4.1") && has!("sse4.2");
    let v3 = v2
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    1 + u32::from(v2) + u32::from(v3) + u32::from(v4)
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(os: &str, architecture: &str, variant: &str) -> PlatformField {
        PlatformField { os: os.into(), architecture: architecture.into(), variant: variant.into() }
    }

    #[test]
    fn the_best_variant_that_the_machine_can_run_fits_best() {
        let v2 = Platform { architecture: "amd64", level: 2 };
        let table = [
            (field("linux", "amd64", ""), Some(1)),
            (field("", "", ""), Some(1)),
            (field("linux", "x86_64", "v1"), Some(1)),
            (field("linux", "amd64", "v2"), Some(2)),
            (field("linux", "amd64", "v3"), None),
            (field("linux", "amd64", "odd"), None),
            (field("windows", "amd64", ""), None),
            (field("unknown", "unknown", ""), None),
            (field("linux", "arm64", "v8"), None),
        ];
        for (field, fit) in table {
            assert_eq!(v2.fit(&field), fit, "{field}");
        }
        let arm = Platform { architecture: "arm64", level: 8 };
        assert_eq!(arm.fit(&field("linux", "arm64", "")), Some(8));
        assert_eq!(arm.fit(&field("linux", "aarch64", "v8.2")), Some(8));
        assert_eq!(arm.fit(&field("linux", "arm64", "v9")), None);
        assert_eq!(arm.fit(&field("linux", "arm", "v7")), None);
    }

    #[test]
    fn platforms_are_shown_as_docker_shows_them() {
        assert_eq!(field("linux", "arm", "v7").to_string(), "linux/arm/v7");
        assert_eq!(field("", "", "").to_string(), "unknown/unknown");
        assert!(Platform::host().level >= 1);
    }
}
