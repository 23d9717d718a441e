//! What clients may send, and what they may not.

use proptest::prelude::*;

use super::{Close, Compression, Decoder, Deflater, Event, Fault, decode, deflate, encode};

const MAX: usize = 65_536;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const CLOSE: u8 = 0x88;

/// A frame as a client sends it: masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let server = encode::message(encode::Kind::Binary, payload);
    let header = server.len() - payload.len();
    let mut frame = server[..header].to_vec();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn agreed() -> Option<Compression> {
    Compression::agree(["permessage-deflate"])
}

/// All that is said in a stream that comes in these pieces, and how it ends.
fn read<'a>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Option<Fault>) {
    let mut events = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(fault) => return (events, Some(fault)),
            }
        }
        assert!(piece.is_empty());
    }
    (events, None)
}

fn all(stream: &[u8]) -> (Vec<Event>, Option<Fault>) {
    read(&mut Decoder::new(MAX, agreed()), [stream])
}

fn fault(stream: &[u8]) -> Fault {
    all(stream).1.expect("a fault")
}

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

#[test]
fn the_masked_example_of_the_rfc() {
    let stream = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(all(&stream), (vec![text("Hello")], None));
}

#[test]
fn messages_of_every_kind_and_length() {
    for length in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![b'x'; length];
        let expected = Event::Text("x".repeat(length));
        assert_eq!(all(&frame(TEXT, &payload)), (vec![expected], None), "{length}");
        let expected = Event::Binary(payload.clone().into());
        assert_eq!(all(&frame(BINARY, &payload)), (vec![expected], None), "{length}");
    }
}

#[test]
fn control_frames_may_come_within_a_message() {
    let stream = [
        frame(0x01, b"sub"),
        frame(PING, b"1"),
        frame(0x00, b""),
        frame(PONG, b"anything"),
        frame(0x80, b"scribe"),
        frame(CLOSE, b"\x03\xe8bye"),
        frame(TEXT, b"after the close"),
    ]
    .concat();
    let close = Event::Close(Some(Close { code: 1000, reason: "bye".into() }));
    let expected = vec![Event::Ping("1".into()), Event::Pong, text("subscribe"), close];
    assert_eq!(all(&stream), (expected, None));
    assert_eq!(all(&frame(CLOSE, b"")), (vec![Event::Close(None)], None));
}

#[test]
fn what_is_no_frame_is_a_protocol_error() {
    let long = vec![0; 126];
    for (stream, expected) in [
        (vec![TEXT, 0x05], Fault::Unmasked),
        (frame(0xA1, b""), Fault::ReservedBit),
        (frame(0x91, b""), Fault::ReservedBit),
        (frame(0xC9, b""), Fault::ReservedBit),
        (frame(0xC0, b""), Fault::ReservedBit),
        (frame(0x83, b""), Fault::ReservedOpcode(3)),
        (frame(0x8B, b""), Fault::ReservedOpcode(11)),
        (frame(0x09, b""), Fault::FragmentedControl),
        (frame(PING, &long), Fault::LongControl),
        (frame(CLOSE, &long), Fault::LongControl),
        (frame(0x80, b""), Fault::NothingToContinue),
        (frame(0x00, b""), Fault::NothingToContinue),
        ([frame(0x01, b"a"), frame(TEXT, b"b")].concat(), Fault::Interleaved),
        (frame(CLOSE, b"\x03"), Fault::CloseLength),
        (vec![TEXT, 0xFE, 0, 125, 0, 0, 0, 0], Fault::Length),
        (vec![TEXT, 0xFF, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0], Fault::Length),
        (vec![TEXT, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Fault::Length),
    ] {
        let fault = fault(&stream);
        assert_eq!((fault, fault.code()), (expected, 1002), "{stream:x?}");
    }
    let mut without = Decoder::new(MAX, None);
    assert_eq!(read(&mut without, [&frame(0xC1, b"")[..]]).1, Some(Fault::ReservedBit));
}

#[test]
fn only_close_codes_that_may_be_sent_are_taken() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1014, 3000, 3999, 4000, 4999_u16] {
        let close = Some(Close { code, reason: String::new() });
        assert_eq!(all(&frame(CLOSE, &code.to_be_bytes())), (vec![Event::Close(close)], None));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        assert_eq!(fault(&frame(CLOSE, &code.to_be_bytes())), Fault::CloseCode(code));
    }
    assert_eq!(fault(&frame(CLOSE, b"\x03\xe8\xff")).code(), 1007);
}

#[test]
fn a_text_that_cannot_become_utf8_fails_at_its_first_wrong_byte() {
    // Autobahn 6.4: κόσμε, then the beginning of a code point beyond the last one.
    let stream = frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited");
    let header = 6;
    let mut decoder = Decoder::new(MAX, None);
    assert_eq!(read(&mut decoder, [&stream[..header + 12]]), (vec![], None));
    let (_, fault) = read(&mut decoder, [&stream[header + 12..header + 13]]);
    assert_eq!((fault, fault.unwrap().code()), (Some(Fault::NotUtf8), 1007));
    // An end within a character, and a surrogate.
    assert_eq!(fault_of_text(b"\xce"), Fault::NotUtf8);
    assert_eq!(fault_of_text(b"\xed\xa0\x80"), Fault::NotUtf8);
    // A character in two fragments is whole.
    let stream = [frame(0x01, b"\xce"), frame(0x80, b"\xba")].concat();
    assert_eq!(all(&stream), (vec![text("κ")], None));
}

fn fault_of_text(payload: &[u8]) -> Fault {
    fault(&frame(TEXT, payload))
}

#[test]
fn what_is_too_long_is_refused_when_it_is_announced() {
    let mut decoder = Decoder::new(1_000, None);
    let stream = frame(TEXT, &[b'x'; 1_001]);
    let (_, fault) = read(&mut decoder, [&stream[..8]]);
    assert_eq!((fault, fault.unwrap().code()), (Some(Fault::TooLong(1_000)), 1009));
    let mut decoder = Decoder::new(1_000, None);
    let stream = [frame(0x01, &[b'x'; 600]), frame(0x00, &[b'x'; 401])[..8].to_vec()].concat();
    assert_eq!(read(&mut decoder, [&stream[..]]).1, Some(Fault::TooLong(1_000)));
    assert_eq!(decoder.held(), 0);
    let most = [frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 400])].concat();
    let (events, fault) = read(&mut Decoder::new(1_000, None), [&most[..]]);
    assert_eq!((events, fault), (vec![text(&"x".repeat(1_000))], None));
    // The longest message does not bound what a control frame may hold.
    let ping = frame(PING, &[0; 125]);
    let (events, fault) = read(&mut Decoder::new(10, None), [&ping[..]]);
    assert_eq!((events.len(), fault), (1, None));
}

#[test]
fn a_message_in_fragments_for_ever_is_refused() {
    let first = frame(0x01, b"");
    let more = frame(0x00, b"").repeat(1_023);
    let last = frame(0x80, b"");
    let allowed = [&first[..], &more[..more.len() - last.len()], &last[..]];
    assert_eq!(read(&mut Decoder::new(MAX, None), allowed), (vec![text("")], None));
    let (_, fault) = read(&mut Decoder::new(MAX, None), [&first[..], &more[..], &last[..]]);
    assert_eq!((fault, fault.unwrap().code()), (Some(Fault::TooManyFragments(1_024)), 1008));
}

#[test]
fn nothing_is_held_between_messages() {
    let mut decoder = Decoder::new(MAX, agreed());
    let deflated = Deflater::default().squeeze(&[b'x'; 5_000]);
    let stream = [frame(TEXT, &[b'x'; 5_000]), frame(PING, b"1"), frame(0xC1, &deflated)].concat();
    assert_eq!(read(&mut decoder, [&stream[..]]).0.len(), 3);
    assert_eq!(decoder.held(), 0);
}

#[test]
fn a_fault_stays() {
    let mut decoder = Decoder::new(MAX, None);
    assert_eq!(read(&mut decoder, [&[TEXT, 0x05][..]]).1, Some(Fault::Unmasked));
    assert_eq!(read(&mut decoder, [&frame(TEXT, b"a")[..]]), (vec![], Some(Fault::Unmasked)));
}

mod compression {
    use super::*;

    /// Bytes that look like chance.
    fn noise(mut seed: u64) -> impl Iterator<Item = u8> {
        std::iter::repeat_with(move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7692, section 7.2.3: one block, no compression, a last block, two blocks.
        for deflated in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(all(&frame(0xC1, deflated)), (vec![text("Hello")], None), "{deflated:x?}");
        }
        let parts = [
            frame(0x41, &[0xf2, 0x48, 0xcd]),
            frame(PING, b""),
            frame(0x80, &[0xc9, 0xc9, 0x07, 0x00]),
        ];
        assert_eq!(all(&parts.concat()).0, [Event::Ping("".into()), text("Hello")]);
        assert_eq!(all(&frame(0xC1, &[0x00])), (vec![text("")], None));
        assert_eq!(all(&frame(0xC1, &[])), (vec![text("")], None));
    }

    #[test]
    fn a_bomb_is_too_long_and_garbage_is_invalid() {
        let deflated = Deflater::default().squeeze(&vec![b' '; 1 << 24]);
        assert!(deflated.len() < MAX * 2);
        let mut decoder = Decoder::new(MAX * 2, agreed());
        let (_, fault) = read(&mut decoder, [&frame(0xC1, &deflated)[..]]);
        assert_eq!((fault, fault.unwrap().code()), (Some(Fault::TooLong(MAX * 2)), 1009));
        let garbage = super::fault(&frame(0xC1, &[0xFF; 20]));
        assert_eq!((garbage, garbage.code()), (Fault::NotDeflate, 1007));
        let deflated = Deflater::default().squeeze(&[0xE9; 500]);
        assert_eq!(super::fault(&frame(0xC1, &deflated)), Fault::NotUtf8);
    }

    #[test]
    fn the_longest_message_fits_and_a_byte_more_does_not() {
        let mut deflater = Deflater::default();
        for (length, expected) in [(MAX, None), (MAX + 1, Some(Fault::TooLong(MAX)))] {
            let deflated = deflater.squeeze(&vec![b'x'; length]);
            assert_eq!(all(&frame(0xC1, &deflated)).1, expected);
        }
    }

    #[test]
    fn what_is_not_worth_it_or_does_not_become_shorter_is_sent_as_it_is() {
        let prices = &[b'x'; 300];
        assert_eq!(deflate::deflate(prices, 6), None);
        assert!(deflate::deflate(prices, 7).is_some());
        let noise: Vec<u8> = noise(1).take(5_000).collect();
        assert_eq!(deflate::deflate(&noise, 1_000), None);
    }

    proptest! {
        #[test]
        fn what_is_deflated_is_inflated(
            words in proptest::collection::vec("[a-f]{1,9}", 100..2_000),
            fragment in 1_usize..500,
        ) {
            let message = words.join(" ");
            let deflated = Deflater::default().squeeze(message.as_bytes());
            let mut chunks: Vec<_> = deflated.chunks(fragment).map(|it| frame(0x00, it)).collect();
            chunks[0][0] = 0x41;
            let last = chunks.len() - 1;
            chunks[last][0] |= 0x80;
            let expected = (vec![Event::Text(message)], None);
            prop_assert_eq!(read(&mut Decoder::new(1 << 20, agreed()), [&chunks.concat()[..]]), expected);
        }

        #[test]
        fn what_hardly_becomes_shorter_is_inflated_too(
            seed in any::<u64>(), length in 0_usize..200_000, letters in 1_u64..257,
        ) {
            let noise = noise(seed).map(|byte| (u64::from(byte) % letters) as u8);
            let message: Vec<u8> = noise.take(length).collect();
            let deflated = Deflater::default().squeeze(&message);
            prop_assert!(deflate::inflate(deflated, length).unwrap() == message);
        }

        #[test]
        fn no_garbage_panics_or_takes_more_than_allowed(garbage in any::<Vec<u8>>()) {
            if let Ok(message) = deflate::inflate(garbage, 1_000) {
                prop_assert!(message.len() <= 1_000 && message.capacity() <= 1_001);
            }
        }
    }
}

/// Frames as they may come, most of them right.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => proptest::sample::select(vec![0x00, 0x01, 0x80, TEXT, BINARY, PING, PONG, 0xC1]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof!["\\PC{0,20}".prop_map(String::into_bytes), any::<Vec<u8>>()];
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

proptest! {
    #[test]
    fn however_a_stream_is_split_the_same_is_said(
        frames in proptest::collection::vec(any_frame(), 0..12),
        cuts in proptest::collection::vec(1_usize..40, 0..100),
    ) {
        let stream = frames.concat();
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle().take(if cuts.is_empty() { 0 } else { stream.len() }) {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let split = read(&mut Decoder::new(300, agreed()), pieces);
        let whole = read(&mut Decoder::new(300, agreed()), [&stream[..]]);
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn garbage_never_panics_and_never_takes_more_than_allowed(
        frames in proptest::collection::vec(
            prop_oneof![any_frame(), any::<Vec<u8>>()], 0..40,
        ),
        piece in 1_usize..100,
    ) {
        let stream = frames.concat();
        let mut decoder = Decoder::new(200, agreed());
        for piece in stream.chunks(piece) {
            let mut piece = piece;
            while let Ok(Some(event)) = decoder.next(&mut piece) {
                if let Event::Text(text) = &event {
                    prop_assert!(text.len() <= 200);
                }
                prop_assert!(decoder.held() <= 200 + 2 * 125);
            }
            prop_assert!(decoder.held() <= 200 + 2 * 125);
        }
    }

    #[test]
    fn unmasking_is_the_same_wherever_it_begins(
        payload in any::<Vec<u8>>(), cut in any::<prop::sample::Index>(),
    ) {
        let stream = frame(BINARY, &payload);
        let cut = cut.index(stream.len());
        let pieces = [&stream[..cut], &stream[cut..]];
        let expected = (vec![Event::Binary(payload.into())], None);
        prop_assert_eq!(read(&mut decode::Decoder::new(MAX, None), pieces), expected);
    }
}
