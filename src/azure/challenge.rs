//! What a vault says of the token that it would have taken, in the `WWW-Authenticate` field of a 401.
//!
//! Source: Microsoft, "Authentication, requests and responses", section "Authentication"; RFC 9110, section 11.6.1. A
//! gateway does not need to be told where to get a token, and never goes where it is told: this is for the log, so that an
//! operator learns what is wrong.

use std::borrow::Cow;

use crate::error::Complaint;

/// What a vault whose tokens should be for `audience` has against one for good, as far as `field` tells.
pub(super) fn complaint(field: Option<&str>, audience: &str) -> Option<Complaint> {
    let mut parameters = Parameters::of_bearer(field.unwrap_or_default());
    let mut complaint = None;
    for (name, value) in &mut parameters {
        match name.to_ascii_lowercase().as_str() {
            "error" if value == "insufficient_claims" => return Some(Complaint::Claims),
            // The one is the other with `/.default` behind it.
            "resource" | "scope" if value.strip_suffix("/.default").unwrap_or(&value) != audience => {
                complaint = Some(Complaint::Audience);
            }
            _ => {}
        }
    }
    complaint
}

/// The parameters of a challenge, up to the first that is none.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// Those of the challenge at the beginning of `field`, if its scheme is `Bearer`.
    fn of_bearer(field: &'a str) -> Self {
        match field.trim_start().split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") && field.len() <= LONGEST => {
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
            |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic() && it != b'"');
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

/// A quoted string behind its first quotation mark, and what comes after it (RFC 9110, section 5.6.4).
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), characters.as_str())),
            '\\' => value.push(characters.next()?.1),
            _ if at > LONGEST => return None,
            _ => value.push(character),
        }
    }
    None
}

/// In bytes. Claims for a new token are the longest that a challenge has, some hundred bytes.
const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints() {
        let ours = "https://vault.azure.net";
        for (field, expected) in [
            // What Microsoft's services have answered, and its clients are tested with.
            (
                r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net""#,
                None,
            ),
            (
                r#"Bearer authorization="https://login.microsoftonline.com/t", scope="https://vault.azure.net/.default""#,
                None,
            ),
            (
                r#"Bearer resource="https://vault.azure.cn", authorization="https://login.chinacloudapi.cn/t""#,
                Some(Complaint::Audience),
            ),
            (
                r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==""#,
                Some(Complaint::Claims),
            ),
            (r#"bearer error=insufficient_claims"#, Some(Complaint::Claims)),
            (r#"Bearer error="invalid_token", resource="x""#, Some(Complaint::Audience)),
            (r#"BEARER Resource = "https://vault.azure.net" , x=y"#, None),
            (r#"Bearer resource="https://vault.azure.net/""#, Some(Complaint::Audience)),
            (r#"Bearer resource="https:\/\/vault.azure.net""#, None),
            // What is none, or not whole, tells nothing.
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
            assert_eq!(complaint(Some(field), ours), expected, "{field}");
        }
        let long = format!(r#"Bearer x="{}", error=insufficient_claims"#, "x".repeat(9000));
        assert_eq!(complaint(Some(&long), ours), None);
        assert_eq!(complaint(None, ours), None);
    }
}
