//! NATS subjects and patterns, where RabbitMQ has routing keys and binding keys.
//!
//! Both cut at dots, and `*` is one token in both. `>` is the rest of at least one token; a topic
//! exchange's nearest is `#`, the rest of any number.

/// The binding key of a topic exchange that lets through whatever the pattern matches.
pub(super) fn binding_key(pattern: &str) -> String {
    match pattern.strip_suffix('>') {
        Some(head) if head.is_empty() || head.ends_with('.') => format!("{head}#"),
        _ => pattern.to_owned(),
    }
}

/// Whether the pattern matches the subject, as NATS defines it.
pub(super) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    let mut patterns = pattern.split('.').peekable();
    while let Some(wanted) = patterns.next() {
        let Some(token) = tokens.next() else { return false };
        match wanted {
            ">" if patterns.peek().is_none() => return true,
            "*" => {}
            literal if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_as_in_nats() {
        for (pattern, subject, expected) in [
            ("ticks.norm.AAPL", "ticks.norm.AAPL", true),
            ("ticks.norm.AAPL", "ticks.norm.AAP", false),
            ("ticks.norm.*", "ticks.norm.BRK=2EB", true),
            ("ticks.norm.*", "ticks.norm.EUR/USD", true),
            ("ticks.norm.*", "ticks.norm", false),
            ("ticks.norm.*", "ticks.norm.A.B", false),
            ("ticks.*.AAPL", "ticks.raw.AAPL", true),
            ("ticks.raw.>", "ticks.raw.sim.AAPL", true),
            ("ticks.raw.>", "ticks.raw.sim", true),
            ("ticks.raw.>", "ticks.raw", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("*", "a.b", false),
            ("candles.*.>", "candles.1m.AAPL", true),
            ("candles.*.>", "candles.1m", false),
            ("ticks.>.AAPL", "ticks.x.AAPL", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn a_pattern_becomes_a_binding_key() {
        assert_eq!(binding_key("ticks.raw.>"), "ticks.raw.#");
        assert_eq!(binding_key("ticks.norm.*"), "ticks.norm.*");
        assert_eq!(binding_key("ticks.norm.AAPL"), "ticks.norm.AAPL");
        assert_eq!(binding_key(">"), "#");
    }
}
