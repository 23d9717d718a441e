//! Exact decimal numbers: every digit that came in goes out again.

use std::{borrow::Cow, fmt, str::FromStr};

use rust_decimal::RoundingStrategy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An exact decimal number with the digits of its source: `218.3100` keeps both zeros.
///
/// At most 28 significant digits and 28 decimal places; a number beyond that is refused, never
/// rounded. As JSON it is a string, because a JSON number is a binary float to most readers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(rust_decimal::Decimal);

/// Why a text is not a number that can be kept exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a decimal number at all.
    #[error("{0:?} is not a decimal number")]
    NotANumber(String),
    /// A number, but one with more digits than can be kept.
    #[error("{0:?} has more digits than can be kept exactly (28)")]
    TooPrecise(String),
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(rust_decimal::Decimal::ZERO);

    /// One.
    pub const ONE: Self = Self(rust_decimal::Decimal::ONE);

    /// Takes `1.50`, `-3`, `+.5`, and the scientific forms `1e-7` and `1.5E3`; nothing else: no
    /// white space, no grouping, no `NaN`. `-0` is zero.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let not_a_number = || DecimalError::NotANumber(shorten(text));
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| not_a_number())?),
            None => (text, 0),
        };
        let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
        let is_decimal = unsigned.bytes().any(|b| b.is_ascii_digit())
            && unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !is_decimal {
            return Err(not_a_number());
        }
        let number =
            rust_decimal::Decimal::from_str_exact(mantissa).map_err(|error| match error {
                rust_decimal::Error::ErrorString(_) => not_a_number(),
                _ => DecimalError::TooPrecise(shorten(text)),
            })?;
        let mut number =
            shift(number, exponent).ok_or_else(|| DecimalError::TooPrecise(shorten(text)))?;
        if number.is_zero() {
            // There is one zero, or the same number would have two texts.
            number.set_sign_positive(true);
        }
        Ok(Self(number))
    }

    /// Greater than zero.
    pub fn is_positive(self) -> bool {
        self.0 > rust_decimal::Decimal::ZERO
    }

    /// The nearest binary float: for statistics about numbers, never for a number that goes out.
    pub fn approximate(self) -> f64 {
        use rust_decimal::prelude::ToPrimitive;
        self.0.to_f64().unwrap_or(f64::NAN)
    }

    /// Less than zero.
    pub fn is_negative(self) -> bool {
        self.0 < rust_decimal::Decimal::ZERO
    }

    /// The sum with every digit, or nothing where they do not all fit. Zeros at the end are kept as
    /// long as they do.
    pub fn exact_add(self, other: Self) -> Option<Self> {
        self.exactly(other, |a, b| {
            // Where digits do not fit, `checked_add` rounds. With a zero it gives the other one, with
            // its own scale.
            let sum = a.checked_add(b)?;
            let is_exact = a.is_zero() || b.is_zero() || sum.scale() == a.scale().max(b.scale());
            is_exact.then_some(sum)
        })
    }

    /// The product with every digit, or nothing where they do not all fit. Zeros at the end are kept
    /// as long as they do.
    pub fn exact_mul(self, other: Self) -> Option<Self> {
        self.exactly(other, |a, b| {
            let mantissa = a.mantissa().checked_mul(b.mantissa())?;
            rust_decimal::Decimal::try_from_i128_with_scale(mantissa, a.scale() + b.scale()).ok()
        })
    }

    /// Computes with the numbers as they are and, where that does not fit, without the zeros at their
    /// ends.
    fn exactly(
        self,
        other: Self,
        compute: impl Fn(rust_decimal::Decimal, rust_decimal::Decimal) -> Option<rust_decimal::Decimal>,
    ) -> Option<Self> {
        let trimmed = || compute(self.0.normalize(), other.0.normalize());
        compute(self.0, other.0).or_else(trimmed).map(Self)
    }

    /// This ÷ `other`, computed to 28 digits and then rounded half to even to so many significant
    /// ones, without trailing zeros; nothing where `other` is zero.
    pub fn ratio(self, other: Self, digits: u32) -> Option<Self> {
        const HALF_TO_EVEN: RoundingStrategy = RoundingStrategy::MidpointNearestEven;
        let ratio = self.0.checked_div(other.0)?.round_sf_with_strategy(digits, HALF_TO_EVEN)?;
        Some(Self(ratio.normalize()))
    }
}

/// `number` × 10^`exponent`, or nothing where digits would be lost.
fn shift(number: rust_decimal::Decimal, exponent: i32) -> Option<rust_decimal::Decimal> {
    let scale = i64::from(number.scale()) - i64::from(exponent);
    if number.is_zero() {
        return Some(number);
    }
    if (0..=28).contains(&scale) {
        let scale = u32::try_from(scale).ok()?;
        return rust_decimal::Decimal::try_from_i128_with_scale(number.mantissa(), scale).ok();
    }
    let zeros = u32::try_from(-scale).ok()?;
    let mantissa = 10_i128.checked_pow(zeros)?.checked_mul(number.mantissa())?;
    rust_decimal::Decimal::try_from_i128_with_scale(mantissa, 0).ok()
}

/// Keeps an error message short whatever was sent.
fn shorten(text: &str) -> String {
    const KEPT: usize = 40;
    match text.char_indices().nth(KEPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text)
    }
}

impl From<rust_decimal::Decimal> for Decimal {
    fn from(number: rust_decimal::Decimal) -> Self {
        Self(number)
    }
}

impl From<Decimal> for rust_decimal::Decimal {
    fn from(number: Decimal) -> Self {
        number.0
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "An exact decimal number, with all the digits of its source.",
            "pattern": "^-?[0-9]+(\\.[0-9]+)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        Decimal::parse(text).unwrap().to_string()
    }

    #[test]
    fn every_digit_is_kept() {
        for text in ["218.3100", "0.00000001", "150", "-37.63", "79228162514264337593543950335"] {
            assert_eq!(read(text), text);
        }
        assert_eq!(read("1e-7"), "0.0000001");
        assert_eq!(read("1.50E3"), "1500");
        assert_eq!(read("1.5e1"), "15");
        assert_eq!(read("2e5"), "200000");
        assert_eq!(read("+.5"), "0.5");
        assert_eq!([read("-0"), read("-0.00"), read("-0e9")], ["0", "0.00", "0"]);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for text in [
            "", ".", "-", "abc", "NaN", "1,5", "1 5", " 1", "1_000", "1e", "1e5.5", "0x10",
            "1.2.3", "--1",
        ] {
            assert!(matches!(Decimal::parse(text), Err(DecimalError::NotANumber(_))), "{text:?}");
        }
        for text in
            ["0.12345678901234567890123456789", "1e-29", "1e29", "1e2000000000", "1e-2000000000"]
        {
            assert!(matches!(Decimal::parse(text), Err(DecimalError::TooPrecise(_))), "{text:?}");
        }
    }

    #[test]
    fn as_json_it_is_a_string() {
        let price = Decimal::parse("150.2300").unwrap();
        assert_eq!(serde_json::to_string(&price).unwrap(), "\"150.2300\"");
        assert_eq!(serde_json::from_str::<Decimal>("\"150.2300\"").unwrap(), price);
        assert!(serde_json::from_str::<Decimal>("150.23").is_err());
    }

    #[test]
    fn sums_and_products_are_exact_or_nothing() {
        let number = |text: &str| Decimal::parse(text).unwrap();
        let huge = number("79228162514264337593543950335");
        assert_eq!(number("0.1").exact_add(number("0.20")).unwrap().to_string(), "0.30");
        for (a, b) in [("0.00", "100"), ("100", "0.00"), ("0.000", "0.0")] {
            let sum = number(a).exact_add(number(b));
            assert_eq!(sum, Some(number(a).max(number(b))), "{a} + {b}");
        }
        assert_eq!(huge.exact_add(number("0.00")), Some(huge));
        assert_eq!(huge.exact_add(number("0.5")), None);
        assert_eq!(huge.exact_add(number("1")), None);
        assert_eq!(number("1.50").exact_mul(number("-0.3")).unwrap().to_string(), "-0.450");
        assert_eq!(huge.exact_mul(number("2")), None);
        // As feeds write them that give every number eight places.
        let (price, size) = (number("1650000000.00000000"), number("100000.00000000"));
        assert_eq!(price.exact_mul(size).unwrap(), number("165000000000000"));
        assert_eq!(
            huge.exact_add(number("-1.0")).unwrap().to_string(),
            "79228162514264337593543950334"
        );
        assert_eq!(number("1e-20").exact_mul(number("1e-9")), None);
        assert_eq!(number("1").ratio(number("3"), 4).unwrap().to_string(), "0.3333");
        assert_eq!(number("2").ratio(number("4"), 4).unwrap().to_string(), "0.5");
        assert_eq!(number("1").ratio(Decimal::ZERO, 4), None);
    }

    proptest! {
        #[test]
        fn digits_round_trip(text in "-?[1-9][0-9]{0,12}(\\.[0-9]{1,10})?") {
            prop_assert_eq!(read(&text), text);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Decimal::parse(&text);
        }
    }
}
