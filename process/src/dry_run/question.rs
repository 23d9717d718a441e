//! A question from one instance to another: what would you make of the events of these partitions? The
//! payload is in it as it would be in `TICKS_RAW`, so nobody has to find out again what it is.

use std::{collections::BTreeSet, str::FromStr};

use nats::ServiceRequest;
use schemas::{RawTick, Symbol, headers};

use super::{MAX_CONTENT_BYTES, Refusal};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) raw: RawTick,
    pub(super) partitions: Partitions,
}

/// Some partitions of so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partitions {
    pub(super) asked: BTreeSet<u16>,
    pub(super) count: u16,
}

impl Question {
    /// As a message. What is longer than a message may be cannot be sent: the payload is not, but its
    /// headers may be anything.
    pub(super) fn message(raw: &RawTick, partitions: &Partitions) -> ServiceRequest {
        let asked: Vec<_> = partitions.asked.iter().map(ToString::to_string).collect();
        let asked = format!("{}/{}", asked.join(","), partitions.count);
        let symbol = raw.symbol.as_ref().map(|symbol| (headers::SYMBOL, symbol.to_string()));
        let headers = raw.headers().into_iter().chain(symbol).chain([(headers::PARTITIONS, asked)]);
        ServiceRequest { headers: headers.collect(), body: raw.body.clone() }
    }

    /// Reads it back.
    pub(super) fn read(request: ServiceRequest) -> Result<Self, Refusal> {
        let ServiceRequest { headers, body } = request;
        if body.len() > MAX_CONTENT_BYTES {
            return Err(Refusal::invalid("content", "is too long"));
        }
        let symbol = headers.get(headers::SYMBOL).map(Symbol::new).transpose();
        let symbol =
            symbol.map_err(|fault| Refusal::invalid(headers::SYMBOL, fault.to_string()))?;
        let partitions = headers.get(headers::PARTITIONS).and_then(|asked| asked.parse().ok());
        let partitions = partitions.ok_or_else(|| {
            Refusal::invalid(headers::PARTITIONS, "names no partitions, as 0,3/15 does")
        })?;
        let raw = RawTick::from_message(|name| headers.get(name), symbol, body);
        let raw = raw.map_err(|fault| Refusal::invalid("envelope", fault.to_string()))?;
        Ok(Self { raw, partitions })
    }
}

impl FromStr for Partitions {
    /// There is one way to write them; whoever writes another is none of us.
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (asked, count) = text.split_once('/').ok_or(())?;
        let count = count.parse().ok().filter(|count| *count > 0).ok_or(())?;
        let asked = asked.split(',').map(|partition| partition.parse().map_err(|_| ()));
        Ok(Self { asked: asked.collect::<Result<_, ()>>()?, count })
    }
}
