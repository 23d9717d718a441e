//! How often each defect is made, as configured.

use std::{fmt, str::FromStr};

use super::Defect;

/// One tick in so many has a defect, by defect.
#[derive(Debug, Clone, Default)]
pub(in crate::sources::sim) struct Rates(Vec<(Defect, u32)>);

/// What is wrong with the configured defects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::sources::sim) enum RatesError {
    #[error("{0:?} is not DEFECT=N, such as price-zero=1000 for one tick in 1000")]
    Form(String),
    #[error("{0:?} is not a defect: all, {Names}")]
    Unknown(String),
    #[error("{0:?} is there twice")]
    Twice(String),
}

struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Defect::ALL.map(|(name, _)| name).join(", "))
    }
}

impl Rates {
    /// Reads `DEFECT=N`, one tick in N, or `all=N` for each that is not named.
    pub(in crate::sources::sim) fn read(rules: &[String]) -> Result<Self, RatesError> {
        let mut rates: Vec<(Defect, u32)> = Vec::new();
        let mut of_all = None;
        for rule in rules {
            let read = rule.split_once('=').and_then(|(name, one_in)| {
                Some((name, u32::from_str(one_in).ok().filter(|one_in| *one_in > 0)?))
            });
            let Some((name, one_in)) = read else { return Err(RatesError::Form(rule.clone())) };
            let is_twice = if name == "all" {
                of_all.replace(one_in).is_some()
            } else {
                let known = Defect::from_name(name);
                let defect = known.ok_or_else(|| RatesError::Unknown(name.to_owned()))?;
                let is_twice = rates.iter().any(|(named, _)| *named == defect);
                rates.push((defect, one_in));
                is_twice
            };
            if is_twice {
                return Err(RatesError::Twice(name.to_owned()));
            }
        }
        if let Some(one_in) = of_all {
            for (_, defect) in Defect::ALL {
                if !rates.iter().any(|(named, _)| *named == defect) {
                    rates.push((defect, one_in));
                }
            }
        }
        Ok(Self(rates))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Defect, u32)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rules: &[&str]) -> Result<Rates, RatesError> {
        Rates::read(&rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn rates_are_read_and_faults_named() {
        let rates: Vec<_> = read(&["price-zero=7", "all=1000"]).unwrap().iter().collect();
        assert_eq!(rates[0], (Defect::PriceZero, 7));
        assert_eq!(rates.len(), Defect::ALL.len());
        assert!(rates[1..].iter().all(|(_, one_in)| *one_in == 1_000));
        for rule in ["html", "html=", "html=0", "html=-1", "=5"] {
            assert!(read(&[rule]).is_err(), "{rule}");
        }
        let fault = read(&["hail=9"]).unwrap_err().to_string();
        assert!(fault.starts_with("\"hail\" is not a defect: all, price-times-10,"), "{fault}");
        assert_eq!(read(&["all=1", "all=2"]).unwrap_err(), RatesError::Twice("all".into()));
        assert_eq!(read(&["old=1", "old=1"]).unwrap_err(), RatesError::Twice("old".into()));
    }
}
