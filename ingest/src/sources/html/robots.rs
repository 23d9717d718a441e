//! What a robots.txt allows us: the Robots Exclusion Protocol, RFC 9309
//! (<https://www.rfc-editor.org/rfc/rfc9309>), and the `Crawl-delay` that many add to it.

use std::time::Duration;

use reqwest::Url;

/// The longest `Crawl-delay` that is kept: a longer one could only be a mistake.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is allowed of one host, for one product.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Robots {
    rules: Vec<Rule>,
    /// How long to wait between two requests, if it is said.
    pub(super) crawl_delay: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// Normalised as the paths are that are compared with it.
    pattern: String,
}

impl Robots {
    /// Reads what is said to `product`: the groups that name it, all together, or else those for
    /// everybody.
    pub(super) fn parse(text: &str, product: &str) -> Self {
        let (mut ours, mut everybodys) = (Self::default(), Self::default());
        let mut is_named = false;
        // Whom the lines are for, and whether these are still being named.
        let (mut for_us, mut for_all, mut naming) = (false, false, false);
        for line in text.trim_start_matches('\u{feff}').split(['\n', '\r']) {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            match key.as_str() {
                "user-agent" => {
                    if !naming {
                        (for_us, for_all, naming) = (false, false, true);
                    }
                    for_us |= product_of(value).eq_ignore_ascii_case(product);
                    for_all |= value == "*";
                    is_named |= for_us;
                }
                "allow" | "disallow" | "crawl-delay" => {
                    naming = false;
                    for (applies, robots) in [(for_us, &mut ours), (for_all, &mut everybodys)] {
                        if applies {
                            robots.take(&key, value);
                        }
                    }
                }
                // Others, such as `Sitemap`, say nothing of access and end no list of names.
                _ => {}
            }
        }
        if is_named { ours } else { everybodys }
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "crawl-delay" => {
                let delay = value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
                self.crawl_delay = delay.map(|delay| delay.min(LONGEST_DELAY));
            }
            // An empty pattern is none.
            _ if value.is_empty() => {}
            _ => self.rules.push(Rule { allow: key == "allow", pattern: normalised(value) }),
        }
    }

    /// Whether the page may be fetched: the longest pattern that matches says it, and of two as long
    /// the one that allows. What nothing is said about may be.
    pub(super) fn allows(&self, url: &Url) -> bool {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = normalised(&format!("{}{query}", url.path()));
        let matching = self.rules.iter().filter(|rule| matches(&rule.pattern, &path));
        matching.max_by_key(|rule| (rule.pattern.len(), rule.allow)).is_none_or(|rule| rule.allow)
    }
}

/// The product token that a name begins with; what follows, such as a version, is not compared.
fn product_of(name: &str) -> &str {
    let end = name.find(|c: char| !c.is_ascii_alphabetic() && c != '-' && c != '_');
    &name[..end.unwrap_or(name.len())]
}

/// In the one way that RFC 9309 (2.2.2) compares: what is not ASCII percent-encoded, what needs no
/// encoding not, the digits in capitals.
fn normalised(path: &str) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = path.as_bytes();
    let mut text = String::with_capacity(bytes.len());
    while let [byte, rest @ ..] = bytes {
        bytes = rest;
        match (byte, digit(rest.first()), digit(rest.get(1))) {
            (b'%', Some(high), Some(low)) => {
                // Two digits are there.
                bytes = &rest[2..];
                match char::from_u32(high * 16 + low) {
                    Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => text.push(c),
                    _ => text.push_str(&format!("%{:02X}", high * 16 + low)),
                }
            }
            (0..=0x7f, ..) => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Whether the path begins as the pattern says: `*` is anything, `$` at its end is the end.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, to_the_end) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return !to_the_end || rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if to_the_end && parts.peek().is_none() {
            return rest.ends_with(part);
        }
        // The earliest place leaves the most for what follows.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(text: &str, path: &str) -> bool {
        let url = Url::parse(&format!("https://example.com{path}")).unwrap();
        Robots::parse(text, "lizards").allows(&url)
    }

    #[test]
    fn the_example_of_the_standard() {
        // RFC 9309, 5.1, with us as `foobot`.
        const TEXT: &str = "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\n\
            User-Agent: lizards\nDisallow:/\nAllow:/example/page.html\nAllow:/example/allowed.gif\n\n\
            User-Agent: barbot\nUser-Agent: bazbot\nDisallow: /example/page.html\n\nUser-Agent: quxbot\n\nEOF\n";
        assert!(allows(TEXT, "/example/page.html"));
        assert!(allows(TEXT, "/example/allowed.gif"));
        assert!(!allows(TEXT, "/example/other"));
        assert!(!allows(TEXT, "/"));
        // RFC 9309, 5.2: the longest match.
        const LONGEST: &str = "User-Agent: *\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n\
            Disallow: /example/";
        assert!(!allows(LONGEST, "/example/page/disallowed.gif"));
        assert!(allows(LONGEST, "/example/page/"));
        assert!(!allows(LONGEST, "/example/"));
    }

    #[test]
    fn patterns() {
        for (pattern, path, is_match) in [
            ("/fish", "/fish.html", true),
            ("/fish", "/Fish", false),
            ("/fish/", "/fish", false),
            ("/fish*.php", "/fishheads/catfish.php?x", true),
            ("/*.php$", "/a.php", true),
            ("/*.php$", "/a.php?x", false),
            ("/*.php$", "/a.php.php", true),
            ("/a$", "/a", true),
            ("/a$", "/ab", false),
            ("/a*b*c$", "/abc-c", true),
            ("/a*bc*bc$", "/abc", false),
            ("*", "/", true),
            ("/*?s=", "/q?s=A", true),
            ("$", "/", false),
            ("fish", "/fish", false),
            ("/a%3cd", "/a%3Cd", true),
            ("/%7Ejoe", "/~joe", true),
            ("/ツ", "/%E3%83%84", true),
            ("/a%2fb", "/a/b", false),
            ("/100%", "/100%", true),
        ] {
            assert_eq!(
                matches(&normalised(pattern), &normalised(path)),
                is_match,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn who_is_meant() {
        assert!(!allows("user-agent: LIZARDS/2.0\ndisallow: /", "/x"), "case and version");
        assert!(allows("user-agent: lizardsbot\ndisallow: /", "/x"), "another one");
        assert!(allows("User-agent: *\nDisallow: /\nUser-agent: lizards\nDisallow:", "/x"));
        assert!(
            !allows(
                "User-agent: lizards\nDisallow: /a\n\nUser-agent: *\nDisallow:\n\nUser-agent: lizards\nDisallow: /b",
                "/b"
            ),
            "two groups are one"
        );
        assert!(!allows(
            "User-agent: x\nSitemap: https://example.com\nUser-agent: lizards\nDisallow: /",
            "/x"
        ));
        assert!(allows("Disallow: /", "/x"), "nobody is named");
        assert!(!allows("\u{feff}User-agent: *\r\nDisallow: / # all\r\n", "/x"));
        assert!(allows("User-agent: *\nDisallow: /a\nAllow: /a", "/a"), "of two as long");
        assert!(allows("<html>Not found</html>", "/x"));
    }

    #[test]
    fn how_long_to_wait() {
        let delay = |text: &str| Robots::parse(text, "lizards").crawl_delay;
        assert_eq!(delay("User-agent: *\nCrawl-delay: 2.5"), Some(Duration::from_millis(2_500)));
        assert_eq!(
            delay("User-agent: *\nCrawl-delay: 5\nUser-agent: lizards\nDisallow: /a"),
            None,
            "we are named, and nothing is said to us"
        );
        for wrong in ["-1", "soon", "NaN", ""] {
            assert_eq!(delay(&format!("User-agent: *\nCrawl-delay: {wrong}")), None);
        }
        assert_eq!(delay("User-agent: *\nCrawl-delay: 1e9"), Some(LONGEST_DELAY));
    }
}
