//! Times of every convention become UTC.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use rust_decimal::prelude::ToPrimitive;

use crate::Decimal;

/// How times are written.
#[derive(Debug, Clone)]
pub enum TimeFormat {
    /// With any offset. A leap second (`23:59:60`) is taken for the second before it.
    Rfc3339,
    /// Since 1970-01-01T00:00:00Z, in units of so many nanoseconds; with a fraction, too.
    Epoch(u32),
    /// A pattern that has an offset itself.
    Absolute(String),
    /// A pattern of what the clocks of a time zone show.
    Local(String, TimeZone),
}

impl TimeFormat {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const MILLIS: Self = Self::Epoch(1_000_000);

    /// As configured; what is wrong is told without the key.
    pub fn new(format: &str, zone: &str) -> Result<Self, String> {
        let format = match format {
            "rfc3339" => Self::Rfc3339,
            "epoch_s" => Self::Epoch(1_000_000_000),
            "epoch_ms" => Self::Epoch(1_000_000),
            "epoch_us" => Self::Epoch(1_000),
            "epoch_ns" => Self::Epoch(1),
            pattern if !pattern.contains('%') => {
                return Err(format!(
                    "{pattern:?} is none of rfc3339, epoch_s, epoch_ms, epoch_us and epoch_ns, and \
                     no pattern such as %Y-%m-%d %H:%M:%S"
                ));
            }
            pattern if ["%z", "%:z", "%Q"].iter().any(|offset| pattern.contains(offset)) => {
                Self::Absolute(pattern.to_owned())
            }
            pattern => {
                let zone = TimeZone::get(zone)
                    .map_err(|_| format!("{zone:?} is not a time zone, as Europe/Berlin is"))?;
                return Ok(Self::Local(pattern.to_owned(), zone));
            }
        };
        match zone {
            "" => Ok(format),
            _ => Err(format!("a time zone ({zone}) is only for a pattern without an offset")),
        }
    }

    /// Reads a time; what is wrong is told in words, with the head of what is written.
    pub fn read(&self, written: &str) -> Result<Timestamp, String> {
        let is_none = |like: &str| format!("{:?} is not a time {like}", head(written));
        match self {
            Self::Rfc3339 => written.parse().map_err(|_| is_none("as of RFC 3339")),
            Self::Epoch(nanoseconds) => epoch(written, *nanoseconds).ok_or_else(|| {
                let unit = match nanoseconds {
                    1_000_000_000 => "seconds",
                    1_000_000 => "milliseconds",
                    1_000 => "microseconds",
                    _ => "nanoseconds",
                };
                is_none(&format!("in {unit} since 1970"))
            }),
            Self::Absolute(pattern) => Timestamp::strptime(pattern, written)
                .map_err(|_| is_none(&format!("like {pattern}"))),
            Self::Local(pattern, zone) => {
                let local = DateTime::strptime(pattern, written)
                    .map_err(|_| is_none(&format!("like {pattern}")))?;
                local_time(local, zone).map_err(|fault| format!("{:?} {fault}", head(written)))
            }
        }
    }
}

/// Keeps an error short whatever was written.
fn head(written: &str) -> &str {
    const KEPT: usize = 40;
    written.char_indices().nth(KEPT).map_or(written, |(end, _)| &written[..end])
}

fn epoch(written: &str, nanoseconds: u32) -> Option<Timestamp> {
    let count: rust_decimal::Decimal = Decimal::parse(written).ok()?.into();
    let total = count.checked_mul(nanoseconds.into())?;
    // A fraction of a nanosecond is no time that we can keep.
    if !total.is_integer() {
        return None;
    }
    Timestamp::from_nanosecond(total.to_i128()?).ok()
}

/// What the clocks of a zone showed, if they showed it once.
fn local_time(local: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let name = zone.iana_name().unwrap_or("that time zone");
    let time = zone.to_ambiguous_timestamp(local);
    match time.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            time.unambiguous().map_err(|fault| format!("is not a time: {fault}"))
        }
        AmbiguousOffset::Gap { .. } => {
            Err(format!("did not exist in {name}: the clocks were set forward"))
        }
        AmbiguousOffset::Fold { .. } => {
            Err(format!("came twice in {name}: the clocks were set back"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(format: &str, zone: &str, written: &str) -> Result<String, String> {
        TimeFormat::new(format, zone).unwrap().read(written).map(|time| time.to_string())
    }

    #[test]
    fn every_convention_becomes_utc() {
        const LOCAL: &str = "%Y-%m-%d %H:%M:%S";
        for (format, zone, written, utc) in [
            ("rfc3339", "", "2013-10-07T09:30:00.5-04:00", "2013-10-07T13:30:00.5Z"),
            // Leap seconds are not counted since 1970: one is the second before it.
            ("rfc3339", "", "2016-12-31T23:59:60.25Z", "2016-12-31T23:59:59.25Z"),
            ("epoch_s", "", "1381152600", "2013-10-07T13:30:00Z"),
            ("epoch_s", "", "1381152600.123456789", "2013-10-07T13:30:00.123456789Z"),
            ("epoch_s", "", "1.3811526e9", "2013-10-07T13:30:00Z"),
            ("epoch_ms", "", "1381152600123", "2013-10-07T13:30:00.123Z"),
            ("epoch_us", "", "1381152600123456", "2013-10-07T13:30:00.123456Z"),
            ("epoch_ns", "", "1381152600123456789", "2013-10-07T13:30:00.123456789Z"),
            ("epoch_ns", "", "-1", "1969-12-31T23:59:59.999999999Z"),
            ("%d/%b/%Y:%H:%M:%S %z", "", "07/Oct/2013:09:30:00 -0400", "2013-10-07T13:30:00Z"),
            // Summer and winter in New York and in Berlin.
            (LOCAL, "America/New_York", "2013-10-07 09:30:00", "2013-10-07T13:30:00Z"),
            (LOCAL, "America/New_York", "2013-12-09 09:30:00", "2013-12-09T14:30:00Z"),
            ("%d.%m.%Y %H:%M", "Europe/Berlin", "07.10.2013 09:30", "2013-10-07T07:30:00Z"),
            (
                "%d.%m.%Y %H:%M:%S%.f",
                "Europe/Berlin",
                "09.12.2013 09:30:00.25",
                "2013-12-09T08:30:00.25Z",
            ),
        ] {
            assert_eq!(read(format, zone, written).as_deref(), Ok(utc), "{written}");
        }
    }

    #[test]
    fn a_time_that_the_clocks_showed_never_or_twice_is_refused() {
        let read = |written| read("%Y-%m-%d %H:%M:%S", "America/New_York", written).unwrap_err();
        assert_eq!(
            read("2013-03-10 02:30:00"),
            "\"2013-03-10 02:30:00\" did not exist in America/New_York: the clocks were set forward"
        );
        assert_eq!(
            read("2013-11-03 01:30:00"),
            "\"2013-11-03 01:30:00\" came twice in America/New_York: the clocks were set back"
        );
    }

    #[test]
    fn what_is_no_time_names_its_value() {
        for (format, zone, written) in [
            ("rfc3339", "", "noon"),
            ("epoch_s", "", "soon"),
            ("epoch_ns", "", "0.5"),
            ("epoch_s", "", "99999999999999999999"),
            ("%H:%M %z", "", "25:00 +0000"),
            ("%Y-%m-%d", "Europe/Berlin", "2013-02-30"),
        ] {
            let fault = read(format, zone, written).unwrap_err();
            assert!(fault.starts_with(&format!("{written:?}")), "{fault}");
        }
    }

    #[test]
    fn a_format_that_does_not_work_says_why() {
        for (format, zone, fault) in [
            ("iso", "", "\"iso\" is none of rfc3339"),
            ("%H:%M", "Mars/Olympus", "\"Mars/Olympus\" is not a time zone"),
            ("%H:%M", "", "\"\" is not a time zone"),
            ("epoch_s", "Europe/Berlin", "a time zone (Europe/Berlin) is only for a pattern"),
        ] {
            let error = TimeFormat::new(format, zone).unwrap_err();
            assert!(error.starts_with(fault), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_unit_says_the_same(nanoseconds in -4_000_000_000_000_000_000_i64..4_000_000_000_000_000_000) {
            let expected = Timestamp::from_nanosecond(nanoseconds.into()).unwrap().to_string();
            prop_assert_eq!(read("epoch_ns", "", &nanoseconds.to_string()), Ok(expected.clone()));
            let seconds = rust_decimal::Decimal::from_i128_with_scale(nanoseconds.into(), 9);
            prop_assert_eq!(read("epoch_s", "", &seconds.to_string()), Ok(expected));
        }

        #[test]
        fn no_text_panics(written in "\\PC{0,24}") {
            for (format, zone) in [("rfc3339", ""), ("epoch_s", ""), ("%Y-%m-%d %H:%M:%S", "Asia/Tokyo")] {
                let _ = read(format, zone, &written);
            }
        }
    }
}
