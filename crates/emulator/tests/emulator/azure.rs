//! Key Vault, Entra and the endpoints of managed identities: what they take, what they refuse, and in which words.

use std::collections::HashSet;

use keyvault_emulator::{Kind, NotTaken, facts};
use serde_json::{Value, json};

use crate::asking::{Case, ask, token};

#[tokio::test]
async fn a_vault_is_as_strict_as_azure() {
    let case = Case::new().await;
    case.holds(VAULT).await;
    let name = "a".repeat(128);
    case.holds(&format!("GET /secrets/{name}?$v => 400 | BadParameter")).await;
    let tags: serde_json::Map<_, _> = (0..16).map(|number| (number.to_string(), json!("a"))).collect();
    for (body, answer) in [
        (json!({"value": "a".repeat(25 * 1024)}), "200"),
        (json!({"value": "a".repeat(25 * 1024 + 1)}), "400 | BadParameter"),
        (json!({"value": "a", "tags": tags}), "400 | BadParameter"),
        (json!({"value": "a".repeat(2 * 1024 * 1024)}), "413"),
    ] {
        case.holds(&format!("PUT /secrets/long?$v | {body} => {answer}")).await;
    }
    for version in "2015-06-01 2016-10-01 7.0 7.6-preview.2 7.6 2025-07-01 2026-07-01-preview".split(' ') {
        case.holds(&format!("GET /secrets/db-password?api-version={version} => 200")).await;
    }
    for version in "7.7 7.10 7 7.4-preview 2025-07-02 2025-07-01-preview 2099-01-01 newest".split(' ') {
        let expected =
            format!("The specified version ({version}) is not recognized. Consider using the latest");
        case.holds(&format!("GET /secrets/db-password?api-version={version} => 400 | {expected}")).await;
    }
}

const VAULT: &str = r#"
GET /secrets/db-password?$v => 200 | "value":"correct horse" | "recoveryLevel":"Recoverable+Purgeable"
  | "id":"https://demo.vault.azure.net/secrets/db-password/$version" | content-type: application/json; charset=utf-8
  | cache-control: no-cache | x-ms-keyvault-region: westeurope | x-ms-request-id:
  | strict-transport-security: max-age=31536000;includeSubDomains | keys: attributes id value
GET /secrets/DB-password/?$v => 200 | /secrets/db-password/$version
GET /secrets/db-password/$version?api-version=2026-03-01-preview => 200
GET $read | x-ms-client-request-id: one => 401 | !x-ms-client-request-id
GET $read | x-ms-client-request-id: one | x-ms-return-client-request-id: true => 401 | x-ms-client-request-id: one

GET $read => 401 | "code":"Unauthorized" | AKV10000: Request is missing a Bearer or PoP token.
  | Bearer authorization="https://login.microsoftonline.com/$tenant", resource="https://vault.azure.net"
GET $read | authorization: Bearer => 401 | AKV10000: | www-authenticate: Bearer authorization=
GET $read | authorization: Basic $good => 401 | AKV10000:
GET $read | authorization: $good => 401 | AKV10000:
GET $read | authorization: bearer $good => 200
GET $read | authorization: Bearer $keyvault => 200
GET $read | authorization: Bearer $goodx => 401 | AKV10046: | www-authenticate: Bearer authorization=
GET $read | authorization: Bearer eyJ0.e30.x => 401 | AKV10046:
GET $read | authorization: Bearer $slash => 401 | AKV10022: Invalid audience. Expected https://vault.azure.net or
GET $read | authorization: Bearer $management => 401 | found: https://management.azure.com/.
GET $read | authorization: Bearer $expired => 401 | Error validating token: IDX10223

GET /secrets/db-password => 400 | BadParameter | api-version must be specified
GET /secrets/db-password?api-version= => 400 | BadParameter
GET /secrets/db-password?$v | {} => 400 | BadParameter
GET /secrets/db_password?$v => 400 | "code":"BadParameter" | The request URI contains an invalid name: db_password
GET /secrets/db%2Fpassword?$v => 400 | BadParameter
GET /secrets/..?$v => 400 | BadParameter
GET /secrets//?$v => 400 | BadParameter
GET /secrets/db-password/1?$v => 400 | BadParameter
GET /secrets/db-password/$version0?$v => 400 | BadParameter
GET /secrets?$v&maxresults=0 => 400 | BadParameter
GET /secrets?$v&maxresults=26 => 400 | BadParameter
GET /secrets?$v&maxresults=all => 400 | BadParameter
GET /secrets?$v&$skiptoken=a_b => 400 | BadParameter
GET /deletedsecrets?$v&$skiptoken=a_b => 400 | BadParameter
GET /secrets/a/versions?$v&$skiptoken=a => 400 | BadParameter
GET /secrets/absent/versions?$v => 200 | "value":[] | "nextLink":null
PUT /secrets/a?$v => 400 | BadParameter
PUT /secrets/a?$v | {} => 400 | BadParameter
PUT /secrets/a?$v | {"value":1} => 400 | BadParameter
PUT /secrets/a/$version?$v | {} => 405 | MethodNotAllowed
POST /secrets/db-password?$v => 405 | "code":"MethodNotAllowed" | HTTP POST not allowed
DELETE /secrets?$v => 405 | MethodNotAllowed
PATCH /secrets/absent?$v | {} => 404 | SecretNotFound
GET /secrets/absent?$v => 404 | "code":"SecretNotFound" | A secret with (name/id) absent was not found in this key vault.
GET /secrets/db-password/00000000000000000000000000000000?$v => 404 | (name/id) db-password/00000000000000000000000000000000
GET /deletedsecrets/db-password?$v => 404 | Deleted Secret not found: db-password

PUT /secrets/a?$v | {"value":"","attributes":{"nbf":4000000000,"exp":1}} => 200
GET /secrets/a?$v => 200 | "value":"" | "exp":1
PUT $control/secrets/db-password | {"value":"new"} => 200 | keys: version
PUT $control/secrets/db-password | {"enabled":false} => 200
GET /secrets/db-password?$v => 403 | "innererror":{"code":"SecretDisabled"} | Operation get is not allowed on a disabled
GET /secrets/db-password/$version?$v => 200 | correct horse
POST /secrets/absent/backup?$v => 404 | SecretNotFound
GET /secrets/db-password/backup?$v => 400 | BadParameter
POST /secrets/restore?$v => 400 | BadParameter
POST /secrets/restore?$v | {"value":"e30"} => 400 | Backup blob contains invalid or corrupt version.

DELETE /secrets/db-password?$v => 200 | "recoveryId":"https://demo.vault.azure.net/deletedsecrets/db-password"
  | keys: attributes deletedDate id recoveryId scheduledPurgeDate
PUT /secrets/db-password?$v | {"value":"a"} => 409 | "code":"Conflict" | "code":"ObjectIsDeletedButRecoverable"
  | Secret db-password is currently in a deleted but recoverable state, and its name cannot be reused;
POST /deletedsecrets/db-password/recover?$v => 200
GET /secrets/db-password/$version?$v => 200
DELETE /secrets/db-password?$v => 200
DELETE /deletedsecrets/db-password?$v => 204 | bytes: 0
PUT /secrets/db-password?$v | {"value":"a"} => 200
"#;

#[tokio::test]
async fn a_host_decides_what_can_be_reached() {
    let case = Case::new().await;
    case.holds(HOSTS).await;
    let last = case.emulator.journal().pop().map(|call| (call.kind, call.scheme, call.authority));
    assert_eq!(last, Some((Kind::Nothing, "https".to_owned(), "demo.vault.azure.net.example".to_owned())));

    let own = token(&case.emulator, "https://vault.example").await;
    for address in ["https://keys.example", "http://10.0.0.1", "http://127.0.0.1:8080"] {
        case.holds(&format!("GET {address}/secrets/db-password?$v | authorization: Bearer {own} => 200"))
            .await;
    }
}

const HOSTS: &str = r#"
PUT $control/settings | {"audience":"https://vault.example","hosts":["keys.example","10.0.0.1"]} => 204
GET https://demo.vault.azure.cn/secrets/db-password?$v | authorization: Bearer $china => 200
GET https://demo.vault.azure.cn/secrets/db-password?$v | authorization: Bearer $good => 401 | https://login.chinacloudapi.cn/
GET https://demo.vault.usgovcloudapi.net/secrets/db-password?$v | authorization: Bearer $government => 200
GET https://demo.vault.usgovcloudapi.net/secrets/db-password?$v | authorization: Bearer $china => 401 | AKV10022
GET $read | authorization: Bearer $government => 401 | AKV10022
GET https://keys.example/secrets/db-password?$v | authorization: Bearer $good => 401 | AKV10022
GET http://127.0.0.1/secrets/db-password?$v | authorization: Bearer $good => 401 | AKV10022

GET https://demo.vault.azure.net/emulator/faults => 401
GET https://demo.vault.azure.net/msi/token => 401
GET https://DEMO.vault.azure.net/anything => 401
GET https://demo.vault.azure.net/anything?$v | authorization: Bearer $good => 404
GET https://login.microsoftonline.com/secrets/a => 404 | bytes: 0
GET http://169.254.169.254/secrets/a => 404 | bytes: 0
GET http://keys.example/emulator/journal => 404 | bytes: 0
GET http://keys.example/secrets/a => 401
GET http://127.0.0.1/ => 404 | bytes: 0
GET http://127.255.0.9/secrets/a => 401
GET http://[::1]/secrets/a => 401
GET http://localhost/secrets/a => 401
GET /secrets/a?$v => 404

GET http://demo.vault.azure.net/secrets/db-password?$v | authorization: Bearer $good => 421 | bytes: 0
GET http://demo.vault.azure.net:443/secrets/db-password?$v => 421 | bytes: 0
GET http://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration => 421 | bytes: 0
GET http://10.0.0.2/emulator/journal => 421 | bytes: 0
GET http://0.0.0.0/secrets/a => 421 | bytes: 0
GET https://169.254.169.254/metadata/identity/oauth2/token | metadata: true => 421 | bytes: 0
GET http://169.254.169.253/metadata/identity/oauth2/token | metadata: true => 421 | bytes: 0
GET http://[fe80::1]/secrets/a => 421 | bytes: 0
GET https://demo.vault.microsoftazure.de/secrets/a => 421 | bytes: 0
GET https://vault.azure.net/secrets/a => 421 | bytes: 0
GET https://a.b.vault.azure.net/secrets/a => 421 | bytes: 0
GET https://demovault.azure.net/secrets/a => 421 | bytes: 0
GET https://demo.vault.azure.net.example/secrets/a => 421 | bytes: 0
"#;

#[tokio::test]
async fn a_list_goes_on_after_what_its_client_has_deleted() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    for name in ["a", "B", "c", "D"] {
        emulator.set_secret(name, "1").expect("a valid name");
    }
    let mut pages = Vec::new();
    let mut line = "GET https://demo.vault.azure.net/secrets?api-version=7.4&maxresults=2".to_owned();
    let bearer = format!("Bearer {}", token(emulator, "https://vault.azure.net").await);
    loop {
        let json = ask(emulator, &line, &[("authorization", &bearer)], "").await.expect("an answer").json();
        let items = json["value"].as_array().expect("a list");
        let name = |item: &Value| item["id"].as_str().and_then(|id| id.rsplit('/').next()).map(str::to_owned);
        let page: Vec<String> = items.iter().filter_map(name).collect();
        page.iter().for_each(|name| emulator.delete_secret(name).expect("it is there"));
        pages.push(page.join(" "));
        let Some(next) = json["nextLink"].as_str() else { break };
        line = format!("GET {next}");
    }
    assert_eq!(pages, ["a B", "c D", "db-password"]);
    // A value that is not taken recovers nothing.
    assert_eq!(emulator.set_secret("a", &"a".repeat(25_601)), Err(NotTaken));
    case.holds("GET /secrets/a?$v => 404").await;
    emulator.set_secret("a", "new").expect("it is recovered");
    case.holds("GET /secrets/a?$v => 200 | new").await;
}

#[tokio::test]
async fn token_endpoints_are_as_strict_as_azure() {
    Case::new().await.holds(IDENTITY).await;
    Case::new().await.holds(IDENTITIES).await;
    Case::new().await.holds(EXPIRY).await;
    // Every source answers with an error of its own when a fault names a status.
    for row in [
        "$imdsbase => 400 | Identity not found",
        "$imdsbase => 404 | IMDS endpoint is updating",
        "$imdsbase => 410 | IMDS is going through updates",
        "$imdsbase => 429 | Too many requests",
        r#"$imdsbase => 500 | "error":"unknown""#,
        "http://127.0.0.1/msi/token => 400 | No User Assigned or Delegated Managed Identity found",
        "http://127.0.0.1/msi/token => 500 | An unexpected error occured while fetching the AAD Token.",
        "$app2017 => 400 | No MSI found for specified ClientId/ResourceId.",
        "$app2017 => 500 | CorrelationId",
        r#"$shell => 500 | "code":"InternalServerError""#,
        "$login/oauth2/v2.0/token => 400 | AADSTS700016",
        "$login/oauth2/v2.0/token => 401 | AADSTS7000215",
        "$login/oauth2/v2.0/token => 503 | temporarily_unavailable",
    ] {
        let case = Case::new().await;
        let status = row.split(" => ").nth(1).and_then(|answer| answer.get(..3)).expect("a status");
        let fault = format!(r#"{{"upstream":"token","effect":{{"status":{status}}}}}"#);
        case.holds(&format!("POST $control/faults | {fault} => 204\nGET {row}")).await;
    }
}

const IDENTITY: &str = r#"
GET $app2019 | $header => 200 | "resource":"https://vault.azure.net" | keys: access_token client_id expires_on resource token_type
GET http://127.0.0.1/MSI/token/?api-version=2025-03-30&$resource | $header => 200 | access_token
POST $app2019 | $header => 405 | method
GET http://127.0.0.1/msi/token?$resource | $header => 400 | api-version
GET http://127.0.0.1/msi/token?api-version=2018-02-01&$resource | $header => 400 | api-version
GET http://127.0.0.1/msi/token?api-version=latest&$resource | $header => 400 | api-version
GET http://127.0.0.1/msi/token?api-version=2019-08-01&resource= | $header => 400 | The resource is missing. | x-correlation-id
GET http://127.0.0.1/msi/token?api-version=2019-08-01&resource=https://example.com | $header => 500 | occured
GET $app2019&client_id=unknown | $header => 400 | "message":"No User Assigned or Delegated Managed Identity found for
GET $app2019&clientid=unknown | $header => 400 | No User Assigned
GET $app2019&msi_res_id=unknown | $header => 400 | No User Assigned
GET $app2019 => 401 | bytes: 0 | !content-type
GET $app2019 | $headerx => 401 | bytes: 0
GET $app2019 | $secret => 401 | bytes: 0
GET $app2019 | metadata: true => 401 | bytes: 0

GET $app2017 | $secret => 200 | "token_type":"Bearer" | keys: access_token expires_on resource token_type
GET $app2017 => 401 | Invalid secret token header: .
GET $app2017 | $header => 401 | Invalid secret token header: .
GET $app2017&clientid=a | $secret => 400 | "Message":"No MSI found for specified ClientId/ResourceId."
GET $app2017&client_id=a | $secret => 400 | "StatusCode":400

GET $imds | metadata: true => 200 | "refresh_token":""
  | keys: access_token expires_in expires_on not_before refresh_token resource token_type
GET $imds => 400 | Required metadata header not specified | server: IMDS/
GET $imds | metadata: True => 400 | Required metadata header not specified
GET $imds | metadata: true | metadata: true => 400 | Required metadata header not specified
GET $imds | metadata: true | x-forwarded-for: 10.0.0.1 => 400 | invalid_request
POST $imds | metadata: true => 405 | invalid_request
GET $imdsbase?$resource | metadata: true => 400 | "newest-versions":["2025-04-07","2024-07-17","2024-03-15"]
GET $imdsbase?api-version=2017-12-01&$resource | metadata: true => 400 | Bad request. api-version is invalid or was not
GET $imdsbase?api-version=2018-02-02&$resource | metadata: true => 400 | newest-versions
GET $imdsbase?api-version=2099-01-01&$resource | metadata: true => 400 | newest-versions
GET $imdsbase?api-version=2025-04-07&$resource | metadata: true => 200 | access_token
GET $imds&$resource | metadata: true => 400 | more than once
GET $imdsbase?api-version=2018-02-01 | metadata: true => 400 | 'resource' is missing
GET $imdsbase?api-version=2018-02-01&resource=https://demo.vault.azure.net/ | metadata: true => 200
GET $imdsbase?api-version=2018-02-01&resource=vault.azure.net | metadata: true => 400 | invalid_resource | AADSTS50001
GET $imdsbase?api-version=2018-02-01&resource=https://vault.azure.net// | metadata: true => 400 | invalid_resource
GET $imdsbase?api-version=2018-02-01&resource=https://vault.keyvault.net | metadata: true => 400 | invalid_resource
GET $imds&client_id=unknown | metadata: true => 400 | Identity not found
GET $imds&mi_res_id=unknown | metadata: true => 400 | Identity not found

POST $shell | metadata: true | $form | $resource => 200
  | keys: access_token expires_in expires_on not_before refresh_token resource token_type
GET $shell | metadata: true | $form | $resource => 405 | MethodNotAllowed
POST $shell | $form | $resource => 400 | metadata header
POST $shell | metadata: true | $resource => 415 | not a form
POST $shell | metadata: true | $form => 400 | AudienceNotSupported
POST $shell | metadata: true | $form | resource=https://example.com => 400 | AudienceNotSupported
POST $shell | metadata: true | $form | $resource&client_id=a => 400 | identity

POST $login/oauth2/v2.0/token | $form | $grant&$client&$vaultscope => 200 | "expires_in":3599
  | keys: access_token expires_in ext_expires_in token_type | cache-control: no-store, no-cache
POST $login/oauth2/v2.0/token | $grant&$client&$vaultscope => 400 | AADSTS900144:
POST $login/oauth2/v2.0/token | $form => 400 | AADSTS900144:
POST https://login.microsoftonline.com/common/oauth2/v2.0/token | $form | $grant => 400 | AADSTS90002:
POST $login/oauth2/v2.0/token | $form | grant_type=password => 400 | AADSTS70003:
POST $login/oauth2/v2.0/token | $form | grant_type=client_credentials&client_id=who => 400
  | AADSTS700016: Application with identifier 'who' was not found in the directory '$tenant'.
POST $login/oauth2/v2.0/token | $form | $grant&client_secret=wrong&$vaultscope => 401 | AADSTS7000215:
POST $login/oauth2/v2.0/token | $form | $grant&$vaultscope => 401 | AADSTS7000216:
POST $login/oauth2/v2.0/token | $form | $grant&$client => 400 | AADSTS900144:
POST $login/oauth2/v2.0/token | $form | $grant&$client&scope=https://vault.azure.net => 400 | AADSTS1002012:
POST $login/oauth2/v2.0/token | $form | $grant&$client&scope=https://example.com/.default => 400 | AADSTS500011:
GET $login/oauth2/v2.0/token => 405 | AADSTS900561:

GET $login/v2.0/.well-known/openid-configuration => 200 | "jwks_uri":"$login/discovery/v2.0/keys"
GET $login/discovery/v2.0/keys => 200 | AQAB | cache-control: max-age=86400, private
GET $upper/v2.0/keys/ => 200 | AQAB
GET https://login.microsoftonline.us/$tenant/discovery/v2.0/keys => 200 | AQAB
GET http://127.0.0.1:8080/$tenant/discovery/v2.0/keys => 200 | AQAB
GET https://login.microsoftonline.com/common/discovery/v2.0/keys => 400 | AADSTS90002:
POST $login/discovery/v2.0/keys => 405 | AADSTS900561:
GET $login/discovery/keys => 404 | bytes: 0
GET https://demo.vault.azure.net/$tenant/discovery/v2.0/keys => 401 | Unauthorized
GET http://169.254.169.254/$tenant/discovery/v2.0/keys => 404 | bytes: 0
"#;

const IDENTITIES: &str = r#"
PUT $control/settings | {"system_assigned":false,"user_assigned":[{"client_id":"c1","object_id":"o1","resource_id":"/r/1"},
  {"client_id":"c2","object_id":"o2","resource_id":"/r/2"}]} => 204
GET $app2019&client_id=c2 | $header => 200 | "client_id":"c2"
GET $app2019&client_id=C1 | $header => 200 | "client_id":"c1"
GET $app2019&principal_id=o1 | $header => 200 | "client_id":"c1"
GET $app2019&object_id=o2 | $header => 200 | "client_id":"c2"
GET $app2019&mi_res_id=/r/2 | $header => 200 | "client_id":"c2"
GET $app2019&client_id=c1&object_id=o1 | $header => 400
GET $app2019&client_id=o1 | $header => 400
GET $app2019 | $header => 400
GET $app2017&clientid=c1 | $secret => 200
GET $imds&msi_res_id=/r/1 | metadata: true => 200
GET $imds&object_id=o1 | metadata: true => 200
GET $imds&principal_id=o1 | metadata: true => 400 | Identity not found
GET $imds | metadata: true => 400 | Multiple user assigned identities exist, please specify the clientId / resourceId
PUT $control/settings | {"system_assigned":false,"user_assigned":[{"client_id":"c","object_id":"o","resource_id":"r"}]} => 204
GET $imds | metadata: true => 200
PUT $control/settings | {"system_assigned":false} => 204
GET $imds | metadata: true => 400 | Identity not found
"#;

const EXPIRY: &str = r#"
DELETE $control/tokens => 204
PUT $control/settings | {"expires_on":"absent","expires_in":"number","lifetime":-5} => 204
GET $imds | metadata: true => 200 | "expires_in":-5 | !expires_on | !refresh_in
PUT $control/settings | {"refresh_in":43200} => 204
GET $imds | metadata: true => 200 | "refresh_in":43200 | "expires_in":"86400"
GET $app2019 | $header => 200 | "refresh_in":43200
GET $app2017 | $secret => 200 | "refresh_in":43200
DELETE $control/tokens => 204
PUT $control/settings | {"lifetime":-9223372036854775808} => 204
GET $imds | metadata: true => 200
PUT $control/settings | {"lifetime":9223372036854775807} => 204
GET $imds | metadata: true => 200
"#;

#[tokio::test]
async fn the_platform_keeps_a_managed_identitys_token() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    case.holds(
        r#"PUT $control/settings | {"user_assigned":[{"client_id":"c1","object_id":"o","resource_id":"r"}]} => 204"#,
    )
    .await;
    let vault = "https://vault.azure.net";
    let first = token(emulator, vault).await;
    assert_eq!(token(emulator, vault).await, first);
    let by_client = token(emulator, &format!("{vault}&client_id=c1")).await;
    assert_eq!(token(emulator, &format!("{vault}&mi_res_id=r")).await, by_client);
    assert_eq!(HashSet::from([&first, &by_client, &token(emulator, &format!("{vault}/")).await]).len(), 3);

    // Neither settings nor other keys make the platform give another one before it has ended; the test does.
    emulator.configure(|settings| settings.lifetime = Some(0));
    emulator.rotate_signing_keys();
    assert_eq!(token(emulator, vault).await, first);
    emulator.forget_tokens();
    assert_ne!(token(emulator, vault).await, token(emulator, vault).await);
    // A client that is told to ask again at once is given another one at once.
    emulator.configure(|settings| (settings.lifetime, settings.refresh_in) = (None, Some(0)));
    assert_ne!(token(emulator, vault).await, token(emulator, vault).await);
}

#[tokio::test]
async fn refusals_are_full_of_what_no_client_of_a_gateway_may_see() {
    let mut texts = String::new();
    for refusal in ["access_denied", "forbidden_by_rbac", "forbidden_by_firewall"] {
        let case = Case::new().await;
        case.holds(&format!(r#"POST $control/faults | {{"effect":{{"refuse":"{refusal}"}}}} => 204"#)).await;
        let line = "GET https://demo.vault.azure.net/secrets/a";
        let body = ask(&case.emulator, line, &[], "").await.expect("an answer").body;
        texts += &String::from_utf8_lossy(&body);
    }
    assert_eq!(facts::ALL.map(|fact| texts.contains(fact)), [true; 5]);
}
