//! `Sec-WebSocket-Extensions`: what of a client's offers we take (RFC 7692, sections 5 and 7.1).

/// The extension we know.
const NAME: &str = "permessage-deflate";

/// The largest window of DEFLATE, as a power of two.
const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that what many share can be made for: 4 KiB.
const MIN_SERVER_WINDOW_BITS: u8 = 12;

/// permessage-deflate, as agreed with one client.
///
/// Neither side takes a context over: the server does not, so that one compressed message serves
/// many clients; the client must not, so that no inflater has to wait for its next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// The largest window that the client keeps, where it said so.
    server_max_window_bits: Option<u8>,
}

impl Compression {
    /// Takes the first offer that can be kept, out of the values of all the headers
    /// `Sec-WebSocket-Extensions` of a request. An offer with a parameter that is unknown, twice
    /// there or badly valued is declined, and one with a server window below 4 KiB; without an offer left, messages are not compressed.
    pub fn agree<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        headers.into_iter().flat_map(|value| value.split(',')).find_map(Self::take)
    }

    fn take(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut seen = Vec::new();
        let mut server_max_window_bits = None;
        for parameter in parts {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
                None => (parameter, None),
            };
            let name = name.to_ascii_lowercase();
            match (name.as_str(), value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                // Whatever window a client uses, we can inflate it.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(value)) => drop(window_bits(value)?),
                ("server_max_window_bits", Some(value)) => {
                    let bits = window_bits(value)?;
                    server_max_window_bits =
                        Some(bits).filter(|bits| *bits >= MIN_SERVER_WINDOW_BITS);
                    server_max_window_bits?;
                }
                _ => return None,
            }
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
        }
        Some(Self { server_max_window_bits })
    }

    /// The value of the header `Sec-WebSocket-Extensions` in the answer.
    pub fn answer(self) -> String {
        let mut answer = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if let Some(bits) = self.server_max_window_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        answer
    }

    /// May a message of so many bytes, not yet compressed, be sent compressed? Nothing in it is
    /// further apart than it is long: what is no longer than the client's window fits into that,
    /// whatever window it was deflated with. What is longer is sent as it is.
    pub fn allows(self, message: usize) -> bool {
        match self.server_max_window_bits {
            Some(bits) if bits < MAX_WINDOW_BITS => message <= 1 << bits,
            _ => true,
        }
    }
}

fn window_bits(value: &str) -> Option<u8> {
    // No sign and no leading zero: one or two digits.
    let bits: u8 = value.parse().ok()?;
    ((8..=MAX_WINDOW_BITS).contains(&bits) && bits.to_string() == value).then_some(bits)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offers: &[&str]) -> Option<String> {
        Compression::agree(offers.iter().copied()).map(Compression::answer)
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn the_offers_of_browsers_and_libraries_are_taken() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "Permessage-Deflate ;Client_Max_Window_Bits = \"9\"; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(PLAIN), "{offer}");
        }
        assert_eq!(answer(&["foo", "bar, permessage-deflate"]).as_deref(), Some(PLAIN));
        // Python's websockets.
        let bounded = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
        let expected = format!("{PLAIN}; server_max_window_bits=12");
        assert_eq!(answer(&[bounded]), Some(expected));
    }

    #[test]
    fn what_cannot_be_kept_is_declined_and_the_next_offer_is_taken() {
        for offer in [
            "",
            "deflate",
            "permessage-deflate;",
            "permessage-deflate; colour",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=300",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
            let other = format!("{offer}, permessage-deflate");
            assert_eq!(answer(&[&other]).as_deref(), Some(PLAIN), "{other}");
        }
    }

    #[test]
    fn a_client_with_a_small_window_gets_no_message_beyond_it_compressed() {
        let agree = |offer| Compression::agree([offer]).unwrap();
        let small = agree("permessage-deflate; server_max_window_bits=12");
        assert!(small.allows(4_096) && !small.allows(4_097));
        let large = agree("permessage-deflate; server_max_window_bits=15");
        assert!(large.allows(1 << 20) && agree("permessage-deflate").allows(1 << 20));
    }
}
