//! Sums of Kubernetes quantities, for the pod's resources in its status. Only shown: limits are enforced from the
//! numbers that admission made of them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
const DECIMAL: [(&str, u32); 6] = [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3)];
const NANO: i128 = 1_000_000_000;

/// Resource by resource; `None` if no list names any.
pub(super) fn sum<'a>(
    lists: impl Iterator<Item = &'a BTreeMap<String, Quantity>>,
) -> Option<BTreeMap<String, Quantity>> {
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    for (name, quantity) in lists.flatten() {
        match total.get_mut(name) {
            Some(so_far) => *so_far = add(so_far, quantity),
            None => {
                total.insert(name.clone(), quantity.clone());
            }
        }
    }
    (!total.is_empty()).then_some(total)
}

/// In the notation of the first, as Kubernetes does. Text that is no quantity counts as zero: admission refused it.
fn add(a: &Quantity, b: &Quantity) -> Quantity {
    let total = nanos(&a.0).unwrap_or(0).saturating_add(nanos(&b.0).unwrap_or(0));
    let binary = a.0.ends_with('i');
    Quantity(text(total, binary))
}

fn nanos(text: &str) -> Option<i128> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let scale: i128 = match suffix {
        "" => NANO,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        other => match BINARY.iter().find(|(s, _)| *s == other) {
            Some((_, shift)) => NANO << shift,
            None => {
                let exponent = match DECIMAL.iter().find(|(s, _)| *s == other) {
                    Some((_, power)) => *power,
                    None => other.strip_prefix(['e', 'E'])?.parse().ok()?,
                };
                NANO.checked_mul(10_i128.checked_pow(exponent)?)?
            }
        },
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(scale)?.checked_div(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)
}

/// Canonical: the largest suffix that leaves a whole number.
fn text(nanos: i128, binary: bool) -> String {
    if binary && nanos % NANO == 0 {
        let value = nanos / NANO;
        let fits = BINARY.iter().find(|(_, shift)| value != 0 && value % (1 << shift) == 0);
        return match fits {
            Some((suffix, shift)) => format!("{}{suffix}", value >> shift),
            None => value.to_string(),
        };
    }
    let mut unit = NANO * 1_000_000_000_000_000_000;
    for suffix in ["E", "P", "T", "G", "M", "k", "", "m", "u", "n"] {
        if nanos != 0 && nanos % unit == 0 {
            return format!("{}{suffix}", nanos / unit);
        }
        unit = (unit / 1000).max(1);
    }
    "0".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_the_notation_of_the_first() {
        let table = [
            ("10m", "90m", "100m"),
            ("500m", "500m", "1"),
            ("1", "250m", "1250m"),
            ("16Mi", "16Mi", "32Mi"),
            ("1Gi", "512Mi", "1536Mi"),
            ("64Mi", "1000000", "68108864"),
            ("64M", "1M", "65M"),
            ("0.5", "1.5", "2"),
            ("1e3", "1", "1001"),
            ("0", "0", "0"),
        ];
        for (a, b, expected) in table {
            assert_eq!(add(&Quantity(a.to_owned()), &Quantity(b.to_owned())).0, expected, "{a} + {b}");
        }
    }

    #[test]
    fn resources_that_one_container_names_are_taken_as_they_are() {
        let one = BTreeMap::from([("cpu".to_owned(), Quantity("0.1".to_owned()))]);
        let two = BTreeMap::from([("memory".to_owned(), Quantity("1Gi".to_owned()))]);
        let total = sum([&one, &two].into_iter()).expect("two resources");
        assert_eq!((total["cpu"].0.as_str(), total["memory"].0.as_str()), ("0.1", "1Gi"));
        assert_eq!(sum(std::iter::empty()), None);
    }
}
