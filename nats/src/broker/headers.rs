//! The headers of a message that was read.

use async_nats::{HeaderMap, HeaderName, HeaderValue};

/// Names and values, in no order; a name may have several values.
///
/// They stay as the client library read them: a message has half a dozen, and most are never asked
/// for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<HeaderMap>);

impl Headers {
    pub(crate) fn new(read: Option<HeaderMap>) -> Self {
        Self(read.filter(|read| !read.is_empty()))
    }

    /// As the client library sends them.
    pub(crate) fn into_map(self) -> HeaderMap {
        self.0.unwrap_or_default()
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        // So few are found sooner by looking at each than by hashing the name.
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(HeaderMap::iter)
            .flat_map(|(name, values)| values.iter().map(|value| (name.as_ref(), value.as_str())))
    }
}

/// What could not be a header of NATS is left out.
impl<Name: AsRef<str>, Value: AsRef<str>> FromIterator<(Name, Value)> for Headers {
    fn from_iter<Pairs: IntoIterator<Item = (Name, Value)>>(pairs: Pairs) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = name.as_ref().parse::<HeaderName>();
            if let (Ok(name), Ok(value)) = (name, value.as_ref().parse::<HeaderValue>()) {
                headers.append(name, value);
            }
        }
        Self::new(Some(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_their_names() {
        let headers: Headers =
            [("A", "1"), ("B", "2"), ("A", "3"), ("not: one", "4")].into_iter().collect();
        assert_eq!((headers.get("A"), headers.get("B")), (Some("1"), Some("2")));
        assert_eq!((headers.get("a"), headers.get("not: one")), (None, None));
        assert_eq!(headers.iter().count(), 3);
        assert_eq!(Headers::default(), Headers::new(Some(HeaderMap::new())));
    }
}
