//! Kubernetes quantities: `250m`, `1.5Gi`, `2e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up. What cannot be read, which the API server doesn't let
/// in, is nothing.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    parse(&quantity.0).unwrap_or(0)
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> i64 {
    let milli = milli(quantity);
    milli.div_euclid(1000) + i64::from(milli.rem_euclid(1000) > 0)
}

fn parse(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')));
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, decimal) = multiplier(suffix)?;
    // In thousandths, without the digits after the point.
    let exponent = decimal + 3 - i32::try_from(fraction.len()).ok()?;
    let scaled = digits.checked_mul(binary)?;
    let power = 10i128.checked_pow(exponent.unsigned_abs())?;
    let milli = if exponent >= 0 {
        scaled.saturating_mul(power)
    } else {
        scaled.div_euclid(power) + i128::from(scaled.rem_euclid(power) > 0)
    };
    Some(i64::try_from(milli).unwrap_or(if milli > 0 { i64::MAX } else { i64::MIN }))
}

/// A suffix as a factor and a power of ten.
fn multiplier(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            (1, Some(exponent).filter(|exponent: &i32| exponent.abs() <= 18)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", 0)]
    #[case("2", 2000)]
    #[case("250m", 250)]
    #[case("0.1", 100)]
    #[case(".5", 500)]
    #[case("1.5Gi", 1_610_612_736_000)]
    #[case("1k", 1_000_000)]
    #[case("1e3", 1_000_000)]
    #[case("1E3", 1_000_000)]
    #[case("12E", i64::MAX)]
    #[case("100n", 1)]
    #[case("1500u", 2)]
    #[case("-1", -1000)]
    #[case("rubbish", 0)]
    #[case("", 0)]
    #[case("1e99", 0)]
    fn quantities_are_read_as_thousandths(#[case] text: &str, #[case] expected: i64) {
        assert_eq!(milli(&Quantity(text.to_owned())), expected);
    }

    #[test]
    fn whole_units_are_rounded_up() {
        assert_eq!(units(&Quantity("1001m".to_owned())), 2);
        assert_eq!(units(&Quantity("128Mi".to_owned())), 128 << 20);
    }
}
