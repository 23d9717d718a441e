//! What a client asks for: one symbol, or all whose names begin alike.

use std::{collections::HashSet, fmt, sync::Arc};

use schemas::{MAX_SYMBOL_BYTES, Symbol};

/// One entry of a `symbols` list.
///
/// A text that ends in `*` is a wildcard, whatever stands before it: `BTC-*`, and `*` for all. So
/// a symbol whose own name ends in `*` cannot be asked for alone; it comes with the wildcards that
/// match it. A `*` further to the front is a letter like any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Selector {
    /// Exactly this symbol.
    Symbol(Symbol),
    /// Every symbol that begins so, those that appear later too; an empty prefix is all.
    Prefix(Box<str>),
}

impl Selector {
    /// Reads an entry; `None` where the text is no symbol and no wildcard.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some(prefix) => {
                let possible = prefix.len() <= MAX_SYMBOL_BYTES
                    && !prefix.contains(char::is_control)
                    && !prefix.starts_with(char::is_whitespace);
                possible.then(|| Self::Prefix(prefix.into()))
            }
            None => Symbol::new(text).ok().map(Self::Symbol),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(symbol) => f.write_str(symbol.as_str()),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Every beginning of a symbol's name, the empty one and the whole name among them. As long as a
/// name is bounded, so is the cost of finding the wildcards that match it, however many there are.
pub(crate) fn prefixes(symbol: &Symbol) -> impl Iterator<Item = &str> {
    let text = symbol.as_str();
    (0..=text.len()).filter_map(|end| text.get(..end))
}

/// A set of selectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    symbols: HashSet<Symbol>,
    prefixes: HashSet<Box<str>>,
}

impl Interest {
    /// Adds a selector; false where it is there already.
    pub(crate) fn insert(&mut self, selector: Selector) -> bool {
        match selector {
            Selector::Symbol(symbol) => self.symbols.insert(symbol),
            Selector::Prefix(prefix) => self.prefixes.insert(prefix),
        }
    }

    /// Takes a selector away; false where it is not there.
    pub(crate) fn remove(&mut self, selector: &Selector) -> bool {
        match selector {
            Selector::Symbol(symbol) => self.symbols.remove(symbol),
            Selector::Prefix(prefix) => self.prefixes.remove(prefix),
        }
    }

    /// Is this selector one of the set? A wildcard that matches it does not count.
    pub(crate) fn contains(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Symbol(symbol) => self.symbols.contains(symbol),
            Selector::Prefix(prefix) => self.prefixes.contains(prefix),
        }
    }

    /// Does any selector of the set ask for this symbol?
    pub(crate) fn matches(&self, symbol: &Symbol) -> bool {
        self.symbols.contains(symbol)
            || (!self.prefixes.is_empty()
                && prefixes(symbol).any(|prefix| self.prefixes.contains(prefix)))
    }

    /// How many selectors there are.
    pub(crate) fn len(&self) -> usize {
        self.symbols.len() + self.prefixes.len()
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The symbols asked for by name, unless there is a wildcard too.
    pub(crate) fn symbols_only(&self) -> Option<&HashSet<Symbol>> {
        self.prefixes.is_empty().then_some(&self.symbols)
    }

    /// All selectors, in no order.
    pub(crate) fn selectors(&self) -> impl Iterator<Item = Selector> {
        let symbols = self.symbols.iter().cloned().map(Selector::Symbol);
        symbols.chain(self.prefixes.iter().cloned().map(Selector::Prefix))
    }

    /// All selectors, sorted: two interests are equal if these are.
    pub(super) fn sorted(&self) -> Arc<[Selector]> {
        let mut selectors: Vec<_> = self.selectors().collect();
        selectors.sort_unstable();
        selectors.into()
    }

    /// All selectors as they were written, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.selectors().map(|selector| selector.to_string()).collect();
        names.sort_unstable();
        names
    }
}

impl FromIterator<Selector> for Interest {
    fn from_iter<T: IntoIterator<Item = Selector>>(selectors: T) -> Self {
        let mut interest = Self::default();
        for selector in selectors {
            interest.insert(selector);
        }
        interest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str) -> Symbol {
        Symbol::new(text).unwrap()
    }

    #[test]
    fn a_star_at_the_end_is_a_wildcard_and_anywhere_else_a_letter() {
        assert_eq!(Selector::parse("*"), Some(Selector::Prefix("".into())));
        assert_eq!(Selector::parse("BTC-*"), Some(Selector::Prefix("BTC-".into())));
        assert_eq!(Selector::parse("A *"), Some(Selector::Prefix("A ".into())));
        assert_eq!(Selector::parse("A*B"), Some(Selector::Symbol(symbol("A*B"))));
        for text in ["", " A", "A\nB", "\n*", " *"] {
            assert_eq!(Selector::parse(text), None, "{text:?}");
        }
        assert_eq!(Selector::parse(&format!("{}*", "X".repeat(65))), None);
    }

    #[test]
    fn an_interest_matches_what_it_names() {
        let interest: Interest = ["AAPL", "BTC-*", "Ö*"]
            .into_iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect();
        for text in ["AAPL", "BTC-", "BTC-USD", "Ö", "Öl"] {
            assert!(interest.matches(&symbol(text)), "{text}");
        }
        for text in ["AAP", "AAPLX", "BTC", "ETH-USD", "O"] {
            assert!(!interest.matches(&symbol(text)), "{text}");
        }
        assert_eq!(interest.names(), ["AAPL", "BTC-*", "Ö*"]);
        let all: Interest = Selector::parse("*").into_iter().collect();
        assert!(all.matches(&symbol("*")));
    }
}
