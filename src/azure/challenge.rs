//! The challenge of a vault: the `WWW-Authenticate` header of a 401, which says what token the vault expects.
//!
//! Source: Microsoft, "Authentication, requests and responses", section "Authentication"; RFC 9110, section
//! 11.6.1.
//!
//! The challenge is parsed for diagnosis only. The gateway knows where to get a token, and never follows the
//! address in a challenge.

use std::borrow::Cow;

use crate::error::TokenMismatch;

/// Why a vault whose tokens are for `audience` will never accept one, as far as the challenge `field` says
/// it.
pub(super) fn mismatch(field: Option<&str>, audience: &str) -> Option<TokenMismatch> {
    let mut parameters = Parameters::of_bearer(field.unwrap_or_default());
    let mut mismatch = None;
    for (name, value) in &mut parameters {
        match name.to_ascii_lowercase().as_str() {
            "error" if value == "insufficient_claims" => return Some(TokenMismatch::Claims),
            // `scope` is `resource` with `/.default` behind it.
            "resource" | "scope" if value.strip_suffix("/.default").unwrap_or(&value) != audience => {
                mismatch = Some(TokenMismatch::Audience);
            }
            _ => {}
        }
    }
    mismatch
}

/// The parameters of a challenge, up to the first invalid one.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// The parameters of the challenge at the beginning of `field`, if its scheme is `Bearer`.
    fn of_bearer(field: &'a str) -> Self {
        match field.trim_start().split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") && field.len() <= MAX_CHALLENGE => {
                Self(rest)
            }
            _ => Self(""),
        }
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.trim_start_matches([' ', '\t', ',']).split_once('=')?;
        let name = name.trim_end();
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if !word(name) {
            return None;
        }
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => quoted(rest)?,
            None => {
                let (value, rest) = rest.split_at_checked(rest.find([',', ' ']).unwrap_or(rest.len()))?;
                (Cow::Borrowed(value), rest)
            }
        };
        self.0 = rest;
        Some((name, value))
    }
}

/// Parses a quoted string behind its first quotation mark, and returns the rest of the text (RFC 9110,
/// section 5.6.4).
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), characters.as_str())),
            '\\' => value.push(characters.next()?.1),
            _ if at > MAX_CHALLENGE => return None,
            _ => value.push(character),
        }
    }
    None
}

/// The longest challenge, in bytes. Claims for a new token are its longest part, with some hundred bytes.
const MAX_CHALLENGE: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_challenge_asks_for() {
        let ours = "https://vault.azure.net";
        for (field, expected) in [
            // Challenges that Microsoft's services have sent, and that its clients are tested with.
            (
                r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net""#,
                None,
            ),
            (
                concat!(
                    r#"Bearer authorization="https://login.microsoftonline.com/t", "#,
                    r#"scope="https://vault.azure.net/.default""#
                ),
                None,
            ),
            (
                concat!(
                    r#"Bearer resource="https://vault.azure.cn", "#,
                    r#"authorization="https://login.chinacloudapi.cn/t""#
                ),
                Some(TokenMismatch::Audience),
            ),
            (
                concat!(
                    r#"Bearer realm="", "#,
                    r#"authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", "#,
                    r#"error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==""#
                ),
                Some(TokenMismatch::Claims),
            ),
            (r#"bearer error=insufficient_claims"#, Some(TokenMismatch::Claims)),
            (r#"Bearer error="invalid_token", resource="x""#, Some(TokenMismatch::Audience)),
            (r#"BEARER Resource = "https://vault.azure.net" , x=y"#, None),
            (r#"Bearer resource="https://vault.azure.net/""#, Some(TokenMismatch::Audience)),
            (r#"Bearer resource="https:\/\/vault.azure.net""#, None),
            // Other and incomplete challenges say nothing.
            (r#"Basic realm=/var/opt/azcmagent/tokens/x.key"#, None),
            (r#"Bearer resource="https://vault.azure.cn"#, None),
            (r#"Bearer resource"#, None),
            (r#"Bearer "resource"="x""#, None),
            (r#"Bearer ="x""#, None),
            (r#"Bearer resource="\"#, None),
            ("Bearer", None),
            ("Bearer ,,,", None),
            ("", None),
        ] {
            assert_eq!(mismatch(Some(field), ours), expected, "{field}");
        }
        let long = format!(r#"Bearer x="{}", error=insufficient_claims"#, "x".repeat(9000));
        assert_eq!(mismatch(Some(&long), ours), None);
        assert_eq!(mismatch(None, ours), None);
    }
}
