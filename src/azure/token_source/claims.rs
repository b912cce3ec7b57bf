//! What an assertion says of itself, for the operator who has to make Entra ID trust it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::error::{Claims, Excerpt};
use crate::json::Json;

/// Reads issuer, subject and audience in the middle part of a JWT, without any check (RFC 7519, section 4.1).
/// They are no secret: the signature, which is, stays out.
pub(super) fn parse(jwt: &str) -> Option<Claims> {
    let mut parts = jwt.split('.');
    let (_, middle) = (parts.next()?, parts.next()?);
    let body = Json::parse(&BASE64_URL_SAFE_NO_PAD.decode(middle).ok()?)?;
    let object = body.as_object()?;
    let text = |name| {
        let value = object.get(name);
        let text = value.as_text().map(str::to_owned).or_else(|| Some(value.texts()?.join(" ")));
        Excerpt::new(&text.unwrap_or_default())
    };
    Some(Claims { issuer: text("iss"), subject: text("sub"), audience: text("aud") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_bounded_and_escaped() {
        let show = |body: &str| {
            let jwt = format!("aGVhZA.{}.c2lnbmF0dXJl", BASE64_URL_SAFE_NO_PAD.encode(body));
            parse(&jwt).map(|claims| claims.to_string())
        };
        let long = "x".repeat(300);
        for (body, expected) in [
            (
                r#"{"iss":"https://a/","sub":"system:serviceaccount:a:b","aud":["c"]}"#,
                Some("issuer https://a/, subject system:serviceaccount:a:b, audience c".to_owned()),
            ),
            (
                r#"{"iss":"a\r\nb\u0000","sub":"\u00fc\"\\","aud":["c","d"]}"#,
                Some("issuer a??b?, subject ???, audience c?d".to_owned()),
            ),
            (r#"{"iss":7}"#, Some("issuer , subject , audience ".to_owned())),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(show(body), expected, "{body}");
        }
        let shown = show(&format!(r#"{{"iss":"{long}"}}"#)).unwrap();
        assert_eq!(shown, format!("issuer {}..., subject , audience ", "x".repeat(200)));
        for no_jwt in ["", "a", "a.b", "a.!.c"] {
            assert!(parse(no_jwt).is_none(), "{no_jwt}");
        }
    }
}
