//! Several prices in one message, deflated, for clients that can inflate (permessage-deflate).
//!
//! One price by itself hardly becomes shorter. What has come together anyhow, in a snapshot, in a
//! burst or by conflation, becomes a `price_update` with several symbols, each of them once, so
//! that nothing is lost and every symbol stays in order.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;

use super::{Format, Frame};
use crate::wire::{Kind, deflate, encode};

/// The longest message, not yet deflated: the smallest window of a client that we agree to.
const LONGEST: usize = 4_096;

/// These prices as finished messages, each of which goes to so many receivers.
pub(super) fn messages(frames: &[Arc<Frame>], format: Format, receivers: usize) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut rest = frames;
    while !rest.is_empty() {
        let (together, after) = rest.split_at(fitting(rest, format));
        messages.push(match together {
            [one] => one.bytes(format).clone(),
            several => message(several, format, receivers),
        });
        rest = after;
    }
    messages
}

/// How many of the first frames fit into one message: at least one.
fn fitting(frames: &[Arc<Frame>], format: Format) -> usize {
    let mut symbols = HashSet::new();
    let mut length = 0;
    for (nth, frame) in frames.iter().enumerate() {
        length += frame.bytes(format).len();
        let is_new = symbols.insert(&frame.symbol);
        if nth > 0 && (!is_new || length > LONGEST) {
            return nth;
        }
    }
    frames.len()
}

fn message(frames: &[Arc<Frame>], format: Format, receivers: usize) -> Bytes {
    let entries: Vec<_> = frames.iter().filter_map(|frame| frame.entry(format)).collect();
    let (kind, message) = match format {
        Format::Json => (Kind::Text, json(&entries)),
        Format::Msgpack => (Kind::Binary, msgpack(&entries)),
    };
    match deflate::deflate(&message, receivers) {
        Some(deflated) => encode::compressed(kind, &deflated),
        None => encode::message(kind, &message),
    }
}

fn json(entries: &[&[u8]]) -> Vec<u8> {
    [Frame::JSON_BEGINS, &entries.join(&b','), Frame::JSON_ENDS].concat()
}

fn msgpack(entries: &[&[u8]]) -> Vec<u8> {
    // LONGEST leaves room for fewer than 65,536.
    let count = entries.len() as u16;
    let [high, low] = count.to_be_bytes();
    let map: &[u8] = if count < 16 { &[0x80 | low] } else { &[0xDE, high, low] };
    [Frame::MSGPACK_BEGINS, map, &entries.concat()].concat()
}

#[cfg(test)]
mod tests {
    use schemas::{ServerMessage, msgpack};

    use super::{
        super::frame::{Encoder, tests::message as tick},
        *,
    };
    use crate::wire::{Compression, Decoder, Event};

    /// The messages as a client reads them that masks what it has received, as only clients do.
    fn read(bytes: &[Bytes]) -> Vec<Event> {
        let compression = Compression::agree(["permessage-deflate"]);
        let mut decoder = Decoder::new(1 << 16, compression);
        let mut events = Vec::new();
        for frame in bytes {
            let header = frame.len() - encode::payload(frame).len();
            let masked =
                [&[frame[0], frame[1] | 0x80], &frame[2..header], &[0; 4], &frame[header..]];
            let masked = masked.concat();
            events.extend(decoder.next(&mut &masked[..]).unwrap());
        }
        events
    }

    fn frames(symbols: &[&str]) -> Vec<Arc<Frame>> {
        let mut encoder = Encoder::default();
        let ticks = symbols.iter().zip(1..);
        ticks.map(|(symbol, seq)| encoder.encode(&tick(symbol, "1.50", seq)).unwrap()).collect()
    }

    /// Which sequences are in which message.
    fn sequences(events: &[Event]) -> Vec<Vec<u64>> {
        let of = |event: &Event| match event {
            Event::Text(text) => match ServerMessage::from_json(text).unwrap() {
                ServerMessage::PriceUpdate { data, .. } => {
                    let mut sequences: Vec<_> = data.values().map(|it| it.seq).collect();
                    sequences.sort_unstable();
                    sequences
                }
                other => panic!("{other:?}"),
            },
            Event::Binary(bytes) => {
                let message = msgpack::to_json(bytes).unwrap();
                let data = message["data"].as_object().unwrap();
                let mut sequences: Vec<_> =
                    data.values().map(|it| it["seq"].as_u64().unwrap()).collect();
                sequences.sort_unstable();
                sequences
            }
            other => panic!("{other:?}"),
        };
        events.iter().map(of).collect()
    }

    #[test]
    fn each_symbol_is_in_a_message_once_and_in_order() {
        let frames = frames(&["A", "B", "A", "B", "C", "C", "D"]);
        for format in [Format::Json, Format::Msgpack] {
            for receivers in [1, 1_000] {
                let messages = messages(&frames, format, receivers);
                let expected = [vec![1, 2], vec![3, 4, 5], vec![6, 7]];
                assert_eq!(sequences(&read(&messages)), expected, "{format:?} {receivers}");
            }
        }
    }

    #[test]
    fn it_is_deflated_where_it_pays() {
        let few = frames(&["A", "B"]);
        let is_deflated = |message: &Bytes| message[0] & 0x40 != 0;
        assert!(!is_deflated(&messages(&few, Format::Json, 1)[0]));
        assert!(is_deflated(&messages(&few, Format::Json, 100)[0]));
        let names: Vec<_> = (0..100).map(|nth| format!("SYMBOL{nth}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        for format in [Format::Json, Format::Msgpack] {
            let many = messages(&frames(&names), format, 1);
            assert!(many.iter().take(2).all(is_deflated), "{format:?}");
            let plain: usize = frames(&names).iter().map(|frame| frame.bytes(format).len()).sum();
            let length: usize = many.iter().map(Bytes::len).sum();
            assert!(length * 3 < plain, "{length} of {plain}");
            let all: Vec<_> = sequences(&read(&many)).concat();
            assert_eq!(all, (1..=100).collect::<Vec<_>>());
        }
        let one = messages(&few[..1], Format::Json, 1_000);
        assert_eq!(one[..], [few[0].bytes(Format::Json).clone()]);
    }
}
