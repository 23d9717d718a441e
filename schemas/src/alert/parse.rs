//! Reads a condition, from left to right.

use super::condition::{
    Comparison, Condition, MAX_AVERAGED, MAX_CONDITION_BYTES, Measure, VolumeBound, Window,
    needs_quotes,
};
use crate::{Decimal, Symbol};

/// Why a text is not a condition, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {fault}")]
pub struct ConditionError {
    /// The number of the character, from 1 on.
    pub at: usize,
    /// What is wrong there.
    pub fault: String,
}

type Parsed<T> = Result<T, ConditionError>;

/// Reads a whole text.
pub(super) fn condition(text: &str) -> Parsed<Condition> {
    if text.len() > MAX_CONDITION_BYTES {
        let fault = format!("a condition has at most {MAX_CONDITION_BYTES} bytes");
        return Err(ConditionError { at: 1, fault });
    }
    let mut parser = Parser { text, at: 0 };
    let condition = parser.condition()?;
    parser.skip_space();
    match parser.rest() {
        "" => Ok(condition),
        _ => parser.fault("nothing may follow the condition"),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes, at a boundary of characters.
    at: usize,
}

impl<'a> Parser<'a> {
    fn condition(&mut self) -> Parsed<Condition> {
        if self.function("change") {
            let (symbol, window) = self.symbol_and_window()?;
            let comparison = self.comparison()?;
            let bound = self.number()?;
            self.expect('%')?;
            return Ok(Condition {
                symbol,
                measure: Measure::Change { window, bound },
                comparison,
            });
        }
        if self.function("volume") {
            let (symbol, window) = self.symbol_and_window()?;
            self.skip_space();
            let begin = self.at;
            let comparison = self.comparison()?;
            if !matches!(comparison, Comparison::Above | Comparison::AtLeast) {
                self.at = begin;
                return self.fault("a volume is compared with > or >=");
            }
            let bound = self.volume_bound()?;
            return Ok(Condition {
                symbol,
                measure: Measure::Volume { window, bound },
                comparison,
            });
        }
        let symbol = self.symbol()?;
        let comparison = self.comparison()?;
        let bound = self.positive("a price")?;
        Ok(Condition { symbol, measure: Measure::Price { bound }, comparison })
    }

    fn volume_bound(&mut self) -> Parsed<VolumeBound> {
        if self.function("average") {
            let factor = Decimal::ONE;
            return Ok(VolumeBound::Average { factor, windows: self.averaged()? });
        }
        let number = self.positive("a volume or its factor")?;
        if !self.skip('*') {
            return Ok(VolumeBound::Size(number));
        }
        if !self.function("average") {
            return self.fault("average(N) is due, such as 3 * average(20)");
        }
        Ok(VolumeBound::Average { factor: number, windows: self.averaged()? })
    }

    /// What follows `average(`.
    fn averaged(&mut self) -> Parsed<u8> {
        self.skip_space();
        let begin = self.at;
        let windows = self.word().parse().ok().filter(|it| (1..=MAX_AVERAGED).contains(it));
        let Some(windows) = windows else {
            self.at = begin;
            return self.fault(format!("an average is of 1 to {MAX_AVERAGED} windows"));
        };
        self.expect(')')?;
        Ok(windows)
    }

    /// What follows the opening bracket of `change` and `volume`.
    fn symbol_and_window(&mut self) -> Parsed<(Symbol, Window)> {
        let symbol = self.symbol()?;
        self.expect(',')?;
        let window = self.window()?;
        self.expect(')')?;
        Ok((symbol, window))
    }

    fn window(&mut self) -> Parsed<Window> {
        self.skip_space();
        let begin = self.at;
        let word = self.word();
        let length = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)].into_iter().find_map(
            |(unit, seconds): (&str, u32)| {
                let count = word.strip_suffix(unit)?;
                let is_count = count.bytes().all(|byte| byte.is_ascii_digit());
                count.parse::<u32>().ok().filter(|_| is_count)?.checked_mul(seconds)
            },
        );
        match length.and_then(Window::from_secs) {
            Some(window) => Ok(window),
            None => {
                self.at = begin;
                self.fault("a window is 1s to 1d, such as 30s, 5m or 1h")
            }
        }
    }

    fn comparison(&mut self) -> Parsed<Comparison> {
        let above = self.skip('>');
        if !above && !self.skip('<') {
            return self.fault("one of >, >=, < and <= is due");
        }
        let or_equal = self.rest().starts_with('=');
        self.at += usize::from(or_equal);
        Ok(match (above, or_equal) {
            (true, false) => Comparison::Above,
            (true, true) => Comparison::AtLeast,
            (false, false) => Comparison::Below,
            (false, true) => Comparison::AtMost,
        })
    }

    fn positive(&mut self, what: &str) -> Parsed<Decimal> {
        self.skip_space();
        let begin = self.at;
        let number = self.number()?;
        if !number.is_positive() {
            self.at = begin;
            return self.fault(format!("{what} is greater than 0"));
        }
        Ok(number)
    }

    fn number(&mut self) -> Parsed<Decimal> {
        self.skip_space();
        let begin = self.at;
        Decimal::parse(self.word()).or_else(|fault| {
            self.at = begin;
            self.fault(fault.to_string())
        })
    }

    fn symbol(&mut self) -> Parsed<Symbol> {
        self.skip_space();
        let begin = self.at;
        let text = match self.rest().strip_prefix('"') {
            Some(_) => self.quoted()?,
            None => {
                let end = self.rest().find(needs_quotes).unwrap_or(self.rest().len());
                self.take(end).to_owned()
            }
        };
        Symbol::new(&text).or_else(|fault| {
            self.at = begin;
            self.fault(fault.to_string())
        })
    }

    /// A text between quotation marks, in which a backslash takes the next character as it is.
    fn quoted(&mut self) -> Parsed<String> {
        let begin = self.at;
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => text.extend(characters.next().map(|(_, next)| next)),
                _ => text.push(character),
            }
        }
        self.at = begin;
        self.fault("the closing quotation mark is missing")
    }

    /// Skips the name of a function and its opening bracket, if that is what comes.
    fn function(&mut self, name: &str) -> bool {
        self.skip_space();
        let begin = self.at;
        if self.rest().starts_with(name) {
            self.at += name.len();
            if self.skip('(') {
                return true;
            }
        }
        self.at = begin;
        false
    }

    /// Letters, digits and what numbers are made of.
    fn word(&mut self) -> &'a str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        let rest = self.rest();
        self.take(rest.find(|c| !is_part(c)).unwrap_or(rest.len()))
    }

    fn expect(&mut self, character: char) -> Parsed<()> {
        if self.skip(character) { Ok(()) } else { self.fault(format!("{character} is due")) }
    }

    /// Skips white space and this character, an ASCII one, if it comes.
    fn skip(&mut self, character: char) -> bool {
        self.skip_space();
        let comes = self.rest().starts_with(character);
        self.at += usize::from(comes);
        comes
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fault<T>(&self, fault: impl Into<String>) -> Parsed<T> {
        let before = self.text.get(..self.at).unwrap_or_default();
        Err(ConditionError { at: before.chars().count() + 1, fault: fault.into() })
    }
}
