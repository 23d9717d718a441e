//! What one connection may subscribe to.

use crate::hub::Selector;

/// A set of symbols, by what may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Everything: nobody is asked who he is.
    All,
    /// What one of these covers, for whoever holds the API key or token of that name.
    Only { holder: String, symbols: Vec<Selector> },
}

impl Permit {
    /// Reads symbols and wildcards as in a `subscribe`; the first that is neither is the error.
    pub(crate) fn parse(holder: &str, symbols: &[String]) -> Result<Self, String> {
        let read = |text: &String| Selector::parse(text).ok_or_else(|| text.clone());
        let symbols = symbols.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self::Only { holder: holder.to_owned(), symbols })
    }

    /// May this be subscribed to? A wildcard only where all that it could ever match may be.
    pub(crate) fn allows(&self, asked: &Selector) -> bool {
        match self {
            Self::All => true,
            Self::Only { symbols, .. } => symbols.iter().any(|allowed| covers(allowed, asked)),
        }
    }

    /// Whose it is; `None` where nobody is asked who he is.
    pub(crate) fn holder(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Only { holder, .. } => Some(holder),
        }
    }

    /// Whether what belongs to this owner is for the holder: all is, where nobody is asked.
    pub(crate) fn owns(&self, owner: Option<&str>) -> bool {
        self.holder().is_none_or(|holder| owner == Some(holder))
    }
}

fn covers(allowed: &Selector, asked: &Selector) -> bool {
    match (allowed, asked) {
        (Selector::Prefix(prefix), Selector::Symbol(symbol)) => {
            symbol.as_str().starts_with(&**prefix)
        }
        (Selector::Prefix(prefix), Selector::Prefix(asked)) => asked.starts_with(&**prefix),
        (Selector::Symbol(symbol), Selector::Symbol(asked)) => symbol == asked,
        (Selector::Symbol(_), Selector::Prefix(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_what_it_matches_and_narrower_wildcards() {
        let permit = Permit::parse("desk", &["AAPL".to_owned(), "BTC-*".to_owned()]).unwrap();
        let allows = |text| permit.allows(&Selector::parse(text).unwrap());
        for text in ["AAPL", "BTC-USD", "BTC-", "BTC-*", "BTC-U*"] {
            assert!(allows(text), "{text}");
        }
        for text in ["AAPLX", "aapl", "AAPL*", "BTC*", "BTC", "*", "MSFT"] {
            assert!(!allows(text), "{text}");
        }
        let all = Permit::parse("", &["*".to_owned()]).unwrap();
        assert!(all.allows(&Selector::parse("*").unwrap()));
        let none = Permit::parse("", &[]).unwrap();
        assert!(!none.allows(&Selector::parse("AAPL").unwrap()));
        assert_eq!(Permit::parse("", &["A\n".to_owned()]), Err("A\n".to_owned()));
        assert!(permit.owns(Some("desk")) && !permit.owns(Some("page")) && !permit.owns(None));
        assert!(Permit::All.owns(Some("desk")) && Permit::All.owns(None));
    }
}
