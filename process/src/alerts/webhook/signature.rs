//! What a receiver checks: <https://www.standardwebhooks.com/>, symmetric signatures.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;
use schemas::alert::Secret;

/// The value of `webhook-signature`: `v1,` and the HMAC-SHA256 of id, time and body, joined by full
/// stops. The key is what follows `whsec_`, decoded.
pub(super) fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let text = secret.expose();
    let text = text.strip_prefix("whsec_").unwrap_or(text);
    // Ours are base64; whatever else stands in the bucket is taken as it is.
    let key = BASE64_STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn it_signs_as_the_reference_does() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = sign(&secret, id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
