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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_becomes_a_binding_key() {
        assert_eq!(binding_key("ticks.raw.>"), "ticks.raw.#");
        assert_eq!(binding_key("ticks.norm.*"), "ticks.norm.*");
        assert_eq!(binding_key("ticks.norm.AAPL"), "ticks.norm.AAPL");
        assert_eq!(binding_key(">"), "#");
    }
}
