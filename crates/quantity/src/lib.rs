//! Quantities: amounts of CPU, memory and the like, as in `500m`, `1.5Gi` or `2e3`.
//!
//! Exact to a billionth, as in Kubernetes; larger than 2⁶³-1 is capped. The format that a quantity was
//! written in survives: `1536Mi` stays binary.

use std::cmp::Ordering;

/// An amount, and how it was written.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi` …
    Binary,
    /// `m`, none, `k` …
    Decimal,
    /// `e3`, `E6` …
    Exponent,
}

/// The text isn't a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', as in 100m, 1.5Gi or 2e3"
)]
pub struct NotAQuantity;

const NANOS: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANOS;
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// From 10⁻⁹ upwards, in steps of 10³.
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

impl Quantity {
    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Quantity, NotAQuantity> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(NotAQuantity);
        }
        let (format, binary, decimal) = read_suffix(suffix)?;
        let nanos = scaled(whole, fraction, binary, decimal + 9);
        Ok(Quantity {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }

    /// Whether it is less than zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it has no fraction.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Thousandths, rounded up and capped: millicores of a CPU quantity.
    pub fn millis(self) -> i64 {
        let millis = div_up(self.nanos, NANOS / 1000);
        i64::try_from(millis.clamp(i64::MIN.into(), i64::MAX.into())).expect("it is clamped")
    }

    /// Whole ones, rounded up: bytes of an amount of memory.
    pub fn units(self) -> i64 {
        i64::try_from(div_up(self.nanos, NANOS)).expect("amounts are capped")
    }

    /// A whole number.
    pub fn whole(number: i64) -> Quantity {
        Quantity {
            nanos: i128::from(number) * NANOS,
            format: Format::Decimal,
        }
    }

    /// The whole number that it is, if it is one.
    pub fn as_whole(self) -> Option<i64> {
        i64::try_from(self.nanos / NANOS).ok().filter(|_| self.is_whole())
    }

    /// About the same number.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// The sum of two, capped.
    pub fn plus(self, other: Quantity) -> Quantity {
        Quantity {
            nanos: (self.nanos + other.nanos).clamp(-MAX, MAX),
            ..self
        }
    }

    /// The same below zero, or above.
    pub fn negated(self) -> Quantity {
        Quantity {
            nanos: -self.nanos,
            ..self
        }
    }

    /// The same amount without anything finer than a thousandth, rounded up.
    pub fn round_up_to_millis(self) -> Quantity {
        Quantity {
            nanos: div_up(self.nanos, NANOS / 1000) * (NANOS / 1000),
            ..self
        }
    }

    /// The canonical text: the largest suffix that needs no fraction.
    pub fn canonical(self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let binary = self.format == Format::Binary && self.is_whole() && self.nanos.abs() >= 1024 * NANOS;
        if binary {
            let (mut amount, mut step) = (self.nanos / NANOS, 0);
            while amount % 1024 == 0 && step < BINARY_SUFFIXES.len() - 1 {
                amount /= 1024;
                step += 1;
            }
            return format!("{amount}{}", BINARY_SUFFIXES[step]);
        }
        let (mut amount, mut step) = (self.nanos, 0);
        while amount % 1000 == 0 && step < DECIMAL_SUFFIXES.len() - 1 {
            amount /= 1000;
            step += 1;
        }
        match (self.format, 3 * i64::try_from(step).unwrap_or_default() - 9) {
            (Format::Exponent, 0) => amount.to_string(),
            (Format::Exponent, exponent) => format!("{amount}e{exponent}"),
            _ => format!("{amount}{}", DECIMAL_SUFFIXES[step]),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// A suffix's format, power of 2 and power of 10.
fn read_suffix(suffix: &str) -> Result<(Format, u32, i32), NotAQuantity> {
    if let Some(step) = (1..)
        .zip(&BINARY_SUFFIXES[1..])
        .find_map(|(step, s)| (*s == suffix).then_some(step))
    {
        return Ok((Format::Binary, 10 * step, 0));
    }
    if let Some(step) = (0..)
        .zip(DECIMAL_SUFFIXES)
        .find_map(|(step, s)| (s == suffix).then_some(step))
    {
        return Ok((Format::Decimal, 0, 3 * step - 9));
    }
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .and_then(|digits| digits.parse::<i32>().ok());
    match exponent {
        Some(exponent) => Ok((Format::Exponent, 0, exponent.clamp(-60, 60))),
        None => Err(NotAQuantity),
    }
}

/// `whole.fraction` × 2^binary × 10^decimal, rounded up and capped.
fn scaled(whole: &str, fraction: &str, binary: u32, decimal: i32) -> i128 {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let mut decimal = decimal - i32::try_from(fraction.len()).unwrap_or(i32::MAX / 2);
    // 38 digits fit; those beyond are a thousandfold below a billionth or above the cap.
    let kept = &digits[..digits.len().min(30)];
    decimal += i32::try_from(digits.len() - kept.len()).unwrap_or_default();
    let mantissa: i128 = kept.parse().unwrap_or_default();
    if mantissa == 0 {
        return 0;
    }
    let Some(mut amount) = mantissa.checked_mul(1 << binary) else {
        // Too large to multiply first: divide before, and round up.
        return divide(mantissa, decimal)
            .checked_mul(1 << binary)
            .map_or(MAX, |amount| amount.min(MAX));
    };
    while decimal > 0 && amount <= MAX {
        amount = amount.saturating_mul(10);
        decimal -= 1;
    }
    divide(amount, decimal).min(MAX)
}

fn divide(mut amount: i128, decimal: i32) -> i128 {
    let mut inexact = false;
    for _ in decimal.max(-60)..0 {
        inexact |= amount % 10 != 0;
        amount /= 10;
    }
    amount + i128::from(inexact)
}

fn div_up(amount: i128, divisor: i128) -> i128 {
    amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", "0")]
    #[case("1", "1")]
    #[case("0.5", "500m")]
    #[case(".5", "500m")]
    #[case("1.", "1")]
    #[case("1000m", "1")]
    #[case("1500m", "1500m")]
    #[case("1.5Gi", "1536Mi")]
    #[case("1024Mi", "1Gi")]
    #[case("128Mi", "128Mi")]
    #[case("512", "512")]
    #[case("0.5Ki", "512")]
    #[case("0.1Ki", "102400m")]
    #[case("100000k", "100M")]
    #[case("+2", "2")]
    #[case("-1.5", "-1500m")]
    #[case("2e3", "2e3")]
    #[case("2000e0", "2e3")]
    #[case("1E", "1E")]
    #[case("100E", "9223372036854775807")]
    #[case("1n", "1n")]
    #[case("0.1n", "1n")]
    #[case("999999999999999999999999999999999999999999", "9223372036854775807")]
    #[case("0.00000000000000000000000000000000000000001", "1n")]
    #[case("16Ei", "9223372036854775807")]
    fn canonical_form(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(Quantity::parse(text).unwrap().canonical(), canonical);
    }

    #[rstest]
    fn what_is_no_quantity(
        #[values(
            "", "-", ".", "1.2.3", "1x", "Mi", "1 Gi", "1gi", "1e", "1e1.5", "1KiB", "--1"
        )]
        text: &str,
    ) {
        assert_eq!(Quantity::parse(text), Err(NotAQuantity), "{text}");
    }

    #[test]
    fn amounts_compare_across_formats() {
        let quantity = |text| Quantity::parse(text).unwrap();
        assert_eq!(quantity("1Gi"), quantity("1024Mi"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert!(quantity("100m") < quantity("0.2"));
        assert_eq!(quantity("0.1m").round_up_to_millis().canonical(), "1m");
    }

    #[rstest]
    #[case("250m", 250, 1)]
    #[case("0.1", 100, 1)]
    #[case("100n", 1, 1)]
    #[case("1001m", 1001, 2)]
    #[case("-1500m", -1500, -1)]
    #[case("1.5Gi", 1_610_612_736_000, 1_610_612_736)]
    #[case("1e30", i64::MAX, i64::MAX)]
    #[case("-12E", i64::MIN, -i64::MAX)]
    #[case("9223372036854775807", i64::MAX, i64::MAX)]
    fn whole_ones_and_thousandths_are_rounded_up_and_capped(
        #[case] text: &str,
        #[case] millis: i64,
        #[case] units: i64,
    ) {
        let quantity = Quantity::parse(text).unwrap();
        assert_eq!((quantity.millis(), quantity.units()), (millis, units));
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_is_the_same_amount_and_stable(text in "[+-]?[0-9]{1,9}(\\.[0-9]{1,4})?(Ki|Mi|Gi|Ti|m|u|k|M|G|e-?[0-9])?") {
            let quantity = Quantity::parse(&text).unwrap();
            let canonical = quantity.canonical();
            proptest::prop_assert_eq!(Quantity::parse(&canonical).unwrap(), quantity);
            proptest::prop_assert_eq!(Quantity::parse(&canonical).unwrap().canonical(), canonical);
        }

        #[test]
        fn no_text_panics(text in "[-+.0-9a-zA-Z]{0,50}") {
            let _ = Quantity::parse(&text).map(Quantity::canonical);
        }
    }
}
