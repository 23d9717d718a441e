//! Which source's ticks keep which calendar.

use std::collections::HashMap;

use super::Calendar;
use crate::Source;

/// The calendars of the sources, as they are configured. A source without one trades day and night.
#[derive(Debug, Clone, Default)]
pub struct Calendars(HashMap<String, Calendar>);

/// A rule that does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CalendarError(String);

impl Calendars {
    /// Reads rules such as `file=XNYS` or, for all sources of a kind, `html=24/7`.
    pub fn new(rules: &[String]) -> Result<Self, CalendarError> {
        let wrong = CalendarError;
        let mut calendars = HashMap::with_capacity(rules.len());
        for rule in rules {
            let Some((source, name)) = rule.split_once('=') else {
                return Err(wrong(format!("{rule:?} is not SOURCE=CALENDAR, as file=XNYS is")));
            };
            Source::new(source).map_err(|fault| wrong(fault.to_string()))?;
            let calendar = Calendar::from_name(name)
                .ok_or_else(|| wrong(format!("{name:?} is not a calendar: XNYS or 24/7")))?;
            if calendars.insert(source.to_owned(), calendar).is_some() {
                return Err(wrong(format!("{source:?} is there twice")));
            }
        }
        Ok(Self(calendars))
    }

    /// Each calendar that a source keeps, some of them more than once.
    pub fn in_use(&self) -> impl Iterator<Item = Calendar> {
        std::iter::once(Calendar::Always).chain(self.0.values().copied())
    }

    /// The calendar of a source: its own, else that of its kind.
    pub fn of(&self, source: &Source) -> Calendar {
        let named = self.0.get(source.as_str()).or_else(|| self.0.get(source.kind()));
        named.copied().unwrap_or(Calendar::Always)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendars(rules: &[&str]) -> Result<Calendars, String> {
        let rules: Vec<String> = rules.iter().map(|&rule| rule.to_owned()).collect();
        Calendars::new(&rules).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_source_has_its_own_calendar_or_that_of_its_kind() {
        let calendars = calendars(&["html=XNYS", "html:coins=24/7"]).unwrap();
        let of = |source: &str| calendars.of(&Source::new(source).unwrap());
        assert_eq!(of("html:shop"), Calendar::UsEquities);
        assert_eq!(of("html:coins"), Calendar::Always);
        assert_eq!(of("coinbase"), Calendar::Always);
    }

    #[test]
    fn a_rule_that_does_not_work_says_why() {
        for (rules, fault) in [
            (&["file"][..], "\"file\" is not SOURCE=CALENDAR, as file=XNYS is"),
            (&["file=XLON"], "\"XLON\" is not a calendar: XNYS or 24/7"),
            (&["file=XNYS", "file=24/7"], "\"file\" is there twice"),
        ] {
            assert_eq!(calendars(rules).unwrap_err(), fault);
        }
        assert!(calendars(&["A B=XNYS"]).unwrap_err().contains("is not a source name"));
    }
}
