//! What a pair of currencies is priced in, by its name.

/// What Binance quotes prices in, as its `exchangeInfo` has it:
/// <https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-endpoints>.
const QUOTES: [&str; 29] = [
    "AEUR", "ARS", "BIDR", "BNB", "BRL", "BTC", "BUSD", "COP", "CZK", "DAI", "DOGE", "ETH", "EUR",
    "EURI", "FDUSD", "GBP", "IDRT", "JPY", "MXN", "PLN", "RON", "TRX", "TRY", "TUSD", "UAH",
    "USD1", "USDC", "USDT", "ZAR",
];

/// The second currency of `BTC-USD`, `EUR/USD`, `EUR_USD` and `BTCUSDT`; `None` where the name does
/// not say. Where several fit, the longest does: `BTCTUSD` is in `TUSD`.
pub(super) fn quote(pair: &str) -> Option<&str> {
    if let Some((_, quote)) = pair.split_once(['-', '/', '_']) {
        return Some(quote).filter(|quote| !quote.is_empty());
    }
    let fits = |quote: &&&str| pair.len() > quote.len() && pair.ends_with(**quote);
    QUOTES.iter().filter(fits).max_by_key(|quote| quote.len()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_priced_in_its_second_currency() {
        for (pair, expected) in [
            ("BTC-USD", Some("USD")),
            ("EUR/USD", Some("USD")),
            ("EUR_USD", Some("USD")),
            ("BTCUSDT", Some("USDT")),
            ("BNBBTC", Some("BTC")),
            ("BTCTUSD", Some("TUSD")),
            ("EURUSDC", Some("USDC")),
            ("USDTTRY", Some("TRY")),
            ("BTC", None),
            ("BTC-", None),
            ("BTCXYZ", None),
            ("", None),
        ] {
            assert_eq!(quote(pair), expected, "{pair}");
        }
    }
}
