//! Which connection follows which symbols, where one does not follow all of them.

use std::collections::BTreeSet;

use schemas::Symbol;

/// The symbols of each connection. A symbol stays with its connection, so that no other symbol's
/// coming or going interrupts it.
pub(super) struct Spread {
    most: usize,
    parts: Vec<BTreeSet<Symbol>>,
}

impl Spread {
    /// Of no symbols yet. A connection follows `most`, which is at least 1.
    pub(super) fn new(most: usize) -> Self {
        Self { most, parts: Vec::new() }
    }

    /// From now on exactly these symbols are followed. New ones go where there is room, and to as many
    /// more connections as they need; a connection may be left with none.
    pub(super) fn follow(&mut self, wanted: &BTreeSet<Symbol>) -> &[BTreeSet<Symbol>] {
        for part in &mut self.parts {
            part.retain(|symbol| wanted.contains(symbol));
        }
        let is_new = |symbol: &&Symbol| !self.parts.iter().any(|part| part.contains(*symbol));
        let new: Vec<Symbol> = wanted.iter().filter(is_new).cloned().collect();
        let mut new = new.into_iter().peekable();
        for part in &mut self.parts {
            let room = self.most.saturating_sub(part.len());
            part.extend(new.by_ref().take(room));
        }
        while new.peek().is_some() {
            self.parts.push(new.by_ref().take(self.most).collect());
        }
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(spread: &mut Spread, symbols: &str) -> Vec<String> {
        let symbols = symbols.split_whitespace().map(|name| Symbol::new(name).unwrap()).collect();
        let named =
            |part: &BTreeSet<Symbol>| part.iter().map(Symbol::as_str).collect::<Vec<_>>().join(" ");
        spread.follow(&symbols).iter().map(named).collect()
    }

    #[test]
    fn as_many_connections_as_are_needed_and_no_more() {
        assert!(follow(&mut Spread::new(2), "").is_empty());
        assert_eq!(follow(&mut Spread::new(2), "A B"), ["A B"]);
        assert_eq!(follow(&mut Spread::new(2), "A B C D E"), ["A B", "C D", "E"]);
        assert_eq!(follow(&mut Spread::new(usize::MAX), "A B C"), ["A B C"]);
    }

    #[test]
    fn a_symbol_stays_where_it_is_and_new_ones_take_the_room_of_those_that_left() {
        let mut spread = Spread::new(2);
        follow(&mut spread, "B C D E F");
        assert_eq!(follow(&mut spread, "C D E F"), ["C", "D E", "F"]);
        assert_eq!(follow(&mut spread, "A C D E F"), ["A C", "D E", "F"]);
        assert_eq!(follow(&mut spread, "A C F"), ["A C", "", "F"]);
        assert_eq!(follow(&mut spread, "A C F G H I J K"), ["A C", "G H", "F I", "J K"]);
        assert_eq!(follow(&mut spread, ""), ["", "", "", ""]);
    }
}
