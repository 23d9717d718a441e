#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| lizards_fuzz::decode(
    schemas::Format::CoinbaseMatch,
    body
));
