//! The answers of Alpha Vantage, by function: <https://www.alphavantage.co/documentation/>.

pub(super) mod quote;
pub(super) mod series;
