//! Numbers as people write them: `€ 1.234,50`, `1'234.50`, `12,34,567.8`.
//!
//! What separates the fraction is configured, or taken from the numbers themselves: `1.234,50` can be
//! read in one way only, and so can `1,5` or `1,234,567`. `1,234` cannot: it is read as the others of
//! its payload are, and rejected where they do not say.

use std::fmt::Display;

use schemas::{Decimal, NumberFormat, Rejection};

use super::{invalid, text};

/// How the numbers of one payload are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Plain,
    /// With this decimal separator.
    Separated(char),
    /// Each as it says itself, and otherwise with this one.
    Inferred(Option<char>),
}

impl Numbers {
    /// As configured; `written` are the numbers of the payload, in `currency`.
    pub(super) fn of(
        format: NumberFormat,
        currency: &str,
        written: impl Iterator<Item = impl AsRef<str>>,
    ) -> Self {
        match format {
            NumberFormat::Plain => Self::Plain,
            NumberFormat::Point => Self::Separated('.'),
            NumberFormat::Comma => Self::Separated(','),
            NumberFormat::Auto => {
                let own = |number: &str| own_separator(bare(number, currency).1);
                let mut said = written.filter_map(|number| own(number.as_ref()));
                let first = said.next();
                Self::Inferred(first.filter(|first| said.all(|other| other == *first)))
            }
        }
    }

    /// Reads a number of the payload.
    pub(super) fn read(
        self,
        field: &str,
        place: &dyn Display,
        written: &str,
        currency: &str,
    ) -> Result<Decimal, Rejection> {
        let not_a_number =
            || invalid(field, place, format!("{:?} is not a number", text::shorten(written)));
        let (minus, digits) = match self {
            Self::Plain => return text::number(field, place, written),
            _ => bare(written, currency),
        };
        let separator = match self {
            Self::Separated(separator) => separator,
            _ if !digits.contains(['.', ',']) => '.',
            Self::Inferred(others) => own_separator(digits).or(others).ok_or_else(|| {
                let fault = format!(
                    "{:?} may have a decimal point or a decimal comma, and no other number says \
                     which: say it in the configuration",
                    text::shorten(written)
                );
                invalid(field, place, fault)
            })?,
            Self::Plain => '.',
        };
        let plain = plain(minus, digits, separator).ok_or_else(not_a_number)?;
        text::number(field, place, &plain)
    }
}

/// Without currency and sign: whether there is a minus, and the rest.
fn bare<'a>(written: &'a str, currency: &str) -> (bool, &'a str) {
    const SIGNS: &str = "$€£¥₹₽₩₺₴₫฿₪₦₱₿¢";
    let is_sign = |c: char| c.is_whitespace() || SIGNS.contains(c);
    let mut number = written.trim_matches(is_sign);
    for _ in 0..2 {
        number = strip_code(number, currency).trim_matches(is_sign);
    }
    match number.strip_prefix(['-', '\u{2212}']) {
        Some(number) => (true, number.trim_start_matches(is_sign)),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    }
}

/// The decimal separator of a number that can be read in one way only.
fn own_separator(digits: &str) -> Option<char> {
    let other = |separator| if separator == '.' { ',' } else { '.' };
    let last = digits.rfind(['.', ','])?;
    let separator = digits[last..].chars().next()?;
    let (before, after) = (&digits[..last], &digits[last + 1..]);
    if before.contains(other(separator)) {
        return Some(separator);
    }
    if before.contains(separator) {
        return Some(other(separator));
    }
    let may_be_a_group = after.len() == 3
        && (1..=3).contains(&before.len())
        && !before.starts_with('0')
        && before.bytes().all(|byte| byte.is_ascii_digit());
    (!may_be_a_group).then_some(separator)
}

/// As programs write it; nothing where the separators are not where they belong.
///
/// Groups must have the length of groups (three digits at the end, two or three before, one to
/// three at the front): where the separators are mixed up, `1,5` must not become 15.
fn plain(minus: bool, number: &str, separator: char) -> Option<String> {
    let (whole, fraction) = match number.split_once(separator) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let is_grouping = |c: char| {
        c.is_whitespace() || matches!(c, '\'' | '’') || (matches!(c, '.' | ',') && c != separator)
    };
    let groups: Vec<&str> = whole.split(is_grouping).collect();
    let (last, others) = groups.split_last()?;
    if let Some((first, middle)) = others.split_first() {
        let lengths_fit = (1..=3).contains(&first.len())
            && middle.iter().all(|group| (2..=3).contains(&group.len()))
            && last.len() == 3;
        if !lengths_fit {
            return None;
        }
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !groups.iter().all(|group| digits(group)) || !fraction.is_none_or(digits) {
        return None;
    }
    let (sign, whole) = (if minus { "-" } else { "" }, groups.concat());
    Some(match fraction {
        Some(fraction) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{whole}"),
    })
}

/// Takes the code of the currency from either end.
fn strip_code<'a>(number: &'a str, currency: &str) -> &'a str {
    let same = |part: &str| part.eq_ignore_ascii_case(currency);
    if let Some((code, rest)) = number.split_at_checked(currency.len())
        && same(code)
    {
        return rest;
    }
    let end = number.len().saturating_sub(currency.len());
    match number.split_at_checked(end) {
        Some((rest, code)) if same(code) => rest,
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(written: &str, numbers: Numbers) -> Result<String, String> {
        let read = numbers.read("price", &"", written, "CHF");
        read.map(|number| number.to_string()).map_err(|rejection| rejection.detail)
    }

    #[test]
    fn numbers_as_people_write_them() {
        for (written, separator, plain) in [
            ("1,234.50", '.', "1234.50"),
            ("€ 1.234,50", ',', "1234.50"),
            ("1 234,50", ',', "1234.50"),
            ("1'234.50 chf", '.', "1234.50"),
            ("12\u{a0}345,6700 €", ',', "12345.6700"),
            ("1\u{202f}234\u{202f}567,8", ',', "1234567.8"),
            ("12,34,567.8", '.', "1234567.8"),
            ("$0.10", '.', "0.10"),
            ("\u{2212}$3.5", '.', "-3.5"),
            ("+7", '.', "7"),
            ("CHF1.50", '.', "1.50"),
        ] {
            assert_eq!(read(written, Numbers::Separated(separator)).unwrap(), plain, "{written}");
            assert_eq!(read(written, Numbers::Inferred(None)).unwrap(), plain, "{written}");
            let other = if separator == '.' { ',' } else { '.' };
            let wrong = read(written, Numbers::Separated(other));
            assert!(wrong.is_err() || wrong.as_deref() == Ok(plain), "{written}: {wrong:?}");
        }
        assert_eq!(read("1e-7", Numbers::Plain).unwrap(), "0.0000001");
    }

    #[test]
    fn what_is_not_clearly_a_number_is_refused() {
        for (written, separator) in [
            ("1,5", '.'),
            ("1,50", '.'),
            ("1.5", ','),
            ("1,2345.6", '.'),
            ("1.5.6", '.'),
            ("1.5,000", '.'),
            ("N/A", '.'),
            ("12 apples", '.'),
            ("1,,234", '.'),
            ("", '.'),
            ("-", '.'),
            ("$", '.'),
            ("CHF", '.'),
        ] {
            assert!(read(written, Numbers::Separated(separator)).is_err(), "{written}");
        }
    }

    #[test]
    fn a_number_with_two_meanings_is_read_as_the_others_or_not_at_all() {
        let of = |written: &[&str]| Numbers::of(NumberFormat::Auto, "EUR", written.iter().copied());
        assert_eq!(of(&["1,234", "12,50", "7"]), Numbers::Inferred(Some(',')));
        assert_eq!(of(&["1,234", "1,234,567"]), Numbers::Inferred(Some('.')));
        assert_eq!(of(&["1,234", "0,125 EUR"]), Numbers::Inferred(Some(',')));
        assert_eq!(of(&["1,234", "5.678"]), Numbers::Inferred(None), "nobody says");
        assert_eq!(of(&["1,5", "1.5"]), Numbers::Inferred(None), "they do not agree");
        assert_eq!(read("1,234", Numbers::Inferred(Some(','))).unwrap(), "1.234");
        assert_eq!(read("1,234", Numbers::Inferred(Some('.'))).unwrap(), "1234");
        assert_eq!(read("1.5", Numbers::Inferred(Some(','))).unwrap(), "1.5", "as it says itself");
        let fault = read("1,234", Numbers::Inferred(None)).unwrap_err();
        assert!(fault.starts_with("price: \"1,234\" may have a decimal point"), "{fault}");
    }

    proptest! {
        /// Written by the rules of one place, a number is never read as another one.
        #[test]
        fn no_number_is_guessed_wrongly(whole in 0..10_000_000_u32, fraction in "[0-9]{0,4}", comma: bool, grouped: bool) {
            let (decimal, group) = if comma { (',', ".") } else { ('.', ",") };
            let mut digits = whole.to_string();
            if grouped {
                for at in (1..digits.len()).rev().filter(|at| (digits.len() - at) % 3 == 0).collect::<Vec<_>>() {
                    digits.insert_str(at, group);
                }
            }
            let (written, plain) = match fraction.as_str() {
                "" => (digits, whole.to_string()),
                fraction => (format!("{digits}{decimal}{fraction}"), format!("{whole}.{fraction}")),
            };
            prop_assert_eq!(read(&written, Numbers::Separated(decimal)), Ok(plain.clone()));
            if let Ok(read) = read(&written, Numbers::Inferred(None)) {
                prop_assert_eq!(read, plain);
            }
        }

        #[test]
        fn no_text_panics(written in "\\PC{0,24}") {
            for numbers in [Numbers::Plain, Numbers::Separated('.'), Numbers::Separated(','), Numbers::Inferred(None)] {
                let _ = read(&written, numbers);
            }
        }
    }
}
