//! What Key Vault says of a secret besides its value, in its own form.
//!
//! Source: Microsoft, "Get Secret" of the Key Vault REST API, `SecretBundle` and `SecretAttributes`.

use serde::Serialize;

use crate::json::{Json, Object, Texts};
use crate::model::Details;

/// Reads the members of a bundle. What is missing or has another type is left out: the value is what counts.
pub(super) fn parse(bundle: &Object) -> Details {
    let attribute = |name| bundle.get("attributes").as_object().map_or(&Json::Null, |all| all.get(name));
    let tags = bundle.get("tags").as_object().into_iter().flat_map(Object::members);
    let tags = tags.filter_map(|(name, text)| Some((name.to_owned(), text.as_text()?.to_owned())));
    Details {
        content_type: bundle.get("contentType").as_text().map(str::to_owned),
        created: attribute("created").as_number(),
        updated: attribute("updated").as_number(),
        not_before: attribute("nbf").as_number(),
        expires: attribute("exp").as_number(),
        enabled: attribute("enabled").as_bool(),
        tags: tags.take(MAX_TAGS).collect(),
    }
}

/// Packs details for another instance, in the same form.
pub(crate) fn pack(details: &Details) -> Vec<u8> {
    #[derive(Serialize)]
    struct Bundle<'a> {
        #[serde(rename = "contentType")]
        content_type: Option<&'a str>,
        attributes: Attributes,
        tags: Texts<'a>,
    }
    #[derive(Serialize)]
    struct Attributes {
        created: Option<u64>,
        updated: Option<u64>,
        nbf: Option<u64>,
        exp: Option<u64>,
        enabled: Option<bool>,
    }
    let Details { content_type, created, updated, not_before, expires, enabled, tags } = details;
    let (created, updated, nbf, exp, enabled) = (*created, *updated, *not_before, *expires, *enabled);
    let attributes = Attributes { created, updated, nbf, exp, enabled };
    let bundle = Bundle { content_type: content_type.as_deref(), attributes, tags: Texts(tags) };
    serde_json::to_vec(&bundle).unwrap_or_default()
}

/// Unpacks what [`pack`] has packed.
pub(crate) fn unpack(packed: &[u8]) -> Option<Details> {
    Json::parse(packed)?.as_object().map(parse)
}

/// The most tags that a secret can have (Microsoft, "About Azure Key Vault secrets", section "Secret tags").
const MAX_TAGS: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_read_as_far_as_they_make_sense() {
        for (body, expected) in [
            ("{}", Details::default()),
            (
                r#"{"contentType":"application/x-pkcs12","tags":{"team":"a","b":"ü"},"attributes":{"enabled":true,
                    "created":1,"updated":2,"nbf":3,"exp":4,"recoveryLevel":"x"}}"#,
                Details {
                    content_type: Some("application/x-pkcs12".to_owned()),
                    created: Some(1),
                    updated: Some(2),
                    not_before: Some(3),
                    expires: Some(4),
                    enabled: Some(true),
                    tags: [("team", "a"), ("b", "ü")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
                },
            ),
            (r#"{"contentType":7,"tags":[],"attributes":{"enabled":"yes","exp":-1}}"#, Details::default()),
            (r#"{"contentType":null,"tags":{"a":7},"attributes":null}"#, Details::default()),
        ] {
            let body = Json::parse(body.as_bytes()).unwrap();
            let details = parse(body.as_object().unwrap());
            assert!(details == expected, "{body_text:?}", body_text = details.content_type);
            assert!(unpack(&pack(&details)) == Some(details));
        }
        let tags: Vec<_> = (0..20).map(|number| format!(r#""{number}":"x""#)).collect();
        let body = Json::parse(format!(r#"{{"tags":{{{}}}}}"#, tags.join(",")).as_bytes()).unwrap();
        assert_eq!(parse(body.as_object().unwrap()).tags.len(), MAX_TAGS);
    }
}
