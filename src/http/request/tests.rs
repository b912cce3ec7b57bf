//! Tables of routes, methods, content types and bodies.

use super::*;

#[test]
fn routes_by_method_and_path() {
    for (method, target, route) in [
        ("POST", "/", Ok(Route::Secret)),
        ("POST", "/?code=x", Ok(Route::Secret)),
        ("POST", "/api/GetKeyVaultSecret", Ok(Route::Secret)),
        ("POST", "/api/getkeyvaultsecret?code=x", Ok(Route::Secret)),
        ("POST", "/API/GetKeyVaultSecret/", Ok(Route::Secret)),
        ("GET", "/healthz", Ok(Route::Health)),
        ("GET", "/readyz?x", Ok(Route::Ready)),
        ("GET", "/openapi.json", Ok(Route::OpenApi)),
        ("GET", "/metrics", Ok(Route::Metrics)),
        ("GET", "/", Err(Error::WrongMethod("POST"))),
        ("PUT", "/api/GetKeyVaultSecret", Err(Error::WrongMethod("POST"))),
        ("OPTIONS", "/", Err(Error::WrongMethod("POST"))),
        ("post", "/", Err(Error::WrongMethod("POST"))),
        ("POST", "/healthz", Err(Error::WrongMethod("GET, HEAD"))),
        ("HEAD", "/healthz", Ok(Route::Health)),
        ("HEAD", "/readyz?x", Ok(Route::Ready)),
        ("HEAD", "/openapi.json", Ok(Route::OpenApi)),
        ("HEAD", "/metrics", Ok(Route::Metrics)),
        ("head", "/healthz", Err(Error::WrongMethod("GET, HEAD"))),
        ("HEAD", "/", Err(Error::WrongMethod("POST"))),
        ("HEAD", "/api/GetKeyVaultSecret", Err(Error::WrongMethod("POST"))),
        ("HEAD", "/x", Err(Error::NoRoute)),
        ("POST", "", Ok(Route::Secret)),
        ("POST", "?code=x", Ok(Route::Secret)),
        ("POST", "/GetKeyVaultSecret", Ok(Route::Secret)),
        ("POST", "/getkeyvaultsecret/?code=x", Ok(Route::Secret)),
        ("GET", "", Err(Error::WrongMethod("POST"))),
        ("POST", "/GetKeyVaultSecret/x", Err(Error::NoRoute)),
        ("POST", "/api/api/GetKeyVaultSecret", Err(Error::NoRoute)),
        ("POST", "//", Err(Error::NoRoute)),
        ("POST", "/api", Err(Error::NoRoute)),
        ("POST", "/api/GetKeyVaultSecret/x", Err(Error::NoRoute)),
        ("POST", "/api/GetKeyVaultSecret%2F", Err(Error::NoRoute)),
        ("GET", "/Healthz", Err(Error::NoRoute)),
        ("GET", "/secrets/x", Err(Error::NoRoute)),
    ] {
        let head = Head { target: target.to_owned(), ..head(&[]) };
        let head = Head { method: Method::from_bytes(method.as_bytes()).unwrap(), ..head };
        assert_eq!(head.route(), route, "{method} {target}");
    }
}

#[test]
fn accepts_only_json_in_utf_8() {
    for (content_type, json) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("Application/JSON;charset=\"utf-8\"; x=y", true),
        ("application/problem+json", true),
        ("application/vnd.example.v1+json ; x=y", true),
        ("text/json", true),
        ("Text/JSON; charset=utf-8", true),
        ("text/jsonx", false),
        ("text/x-json", false),
        ("text/plain", false),
        ("application/jsonp", false),
        ("application/+json", false),
        ("text/plain, application/x+json", false),
        ("application/a b+json", false),
        ("a/b/c+json", false),
        ("application/x-www-form-urlencoded", false),
        ("multipart/form-data; boundary=application/json", false),
        ("json", false),
        ("", false),
    ] {
        let result = head(&[("content-type", content_type)]).check_content(MAX_BODY);
        assert_eq!(result, if json { Ok(()) } else { Err(Error::NotJson) }, "{content_type:?}");
    }
    for (charset, utf8) in [
        ("; charset=utf-8", true),
        ("; charset=\"UTF-8\"", true),
        (";charset=us-ascii;x=y", true),
        ("; x=y", true),
        ("; charset=utf-16", false),
        ("; Charset=UTF-16LE", false),
        ("; charset=iso-8859-1", false),
        ("; charset=", false),
        ("; charset=utf-8; charset=utf-16", false),
    ] {
        let content_type = format!("application/json{charset}");
        let result = head(&[("content-type", &content_type)]).check_content(MAX_BODY);
        assert_eq!(result, if utf8 { Ok(()) } else { Err(Error::NotUtf8) }, "{content_type}");
    }
    assert_eq!(head(&[]).check_content(MAX_BODY), Err(Error::NotJson));
}

#[test]
fn refuses_encoded_and_large_bodies() {
    let json = ("content-type", "application/json");
    for (header, result) in [
        (("content-encoding", "gzip"), Err(Error::NotJson)),
        (("content-encoding", "identity"), Ok(())),
        (("content-encoding", "Identity"), Ok(())),
        (("content-encoding", ""), Ok(())),
        (("content-encoding", "identity,"), Ok(())),
        (("content-encoding", " , identity ,"), Ok(())),
        (("content-encoding", "identity, gzip"), Err(Error::NotJson)),
        (("content-encoding", ",br"), Err(Error::NotJson)),
        (("content-length", "8192"), Ok(())),
        (("content-length", "8193"), Err(Error::BodyTooLarge)),
        (("content-length", "18446744073709551615"), Err(Error::BodyTooLarge)),
    ] {
        assert_eq!(head(&[json, header]).check_content(MAX_BODY), result, "{header:?}");
    }
}

#[test]
fn headers_have_a_size_limit() {
    let long = "x".repeat(33 * 1024);
    assert_eq!(head(&[("x", &long)]).route(), Err(Error::HeadersTooLarge));
    assert_eq!(head(&[(&long, "")]).route(), Err(Error::HeadersTooLarge));
    let target = format!("/?{long}");
    assert_eq!(Head { target, ..head(&[]) }.route(), Err(Error::HeadersTooLarge));
}

#[test]
fn debug_output_has_no_key() {
    let head = Head { target: "/?code=marker".to_owned(), ..head(&[("x-functions-key", "marker")]) };
    assert!(!format!("{head:?}").contains("marker"));
}

#[test]
fn recognizes_cache_control_no_cache() {
    for (value, no_cache) in [
        ("no-cache", true),
        ("max-age=0, No-Cache", true),
        ("no-store", false),
        ("x=\"no-cache\"", false),
        ("", false),
    ] {
        assert_eq!(head(&[("cache-control", value)]).has_no_cache(), no_cache, "{value:?}");
    }
}

#[test]
fn parses_bodies_with_a_secret_and_a_version() {
    let version = "3d76eb676e0a40429c7aa2b4b7912a5d";
    let with_version = |secret: &str, text: &str| format!(r#"{{"Secret":"{secret}","Version":{text}}}"#);
    for (body, expected) in [
        (r#"{"Secret": "Integration-Team-Blog"}"#.to_owned(), Ok(("Integration-Team-Blog", None))),
        (r#"{"secret":"a"}"#.to_owned(), Ok(("a", None))),
        (r#"{"SECRET":"a","Other":{"x":[1,{}]},"n":null}"#.to_owned(), Ok(("a", None))),
        (r#"{"\u0053ecret":"\u0061"}"#.to_owned(), Ok(("a", None))),
        ("\u{feff}{\"Secret\":\"a\"}".to_owned(), Ok(("a", None))),
        (" \r\n{\"Secret\":\"a\"}\n".to_owned(), Ok(("a", None))),
        (with_version("a", &format!("\"{version}\"")), Ok(("a", Some(version)))),
        (with_version("a", &format!("\"{}\"", version.to_uppercase())), Ok(("a", Some(version)))),
        (with_version("a", "null"), Ok(("a", None))),
        (with_version("a", "\"\""), Ok(("a", None))),
        (with_version("a", "\" \""), Err(Error::NoValidVersion)),
        (with_version("a", "\"latest\""), Err(Error::NoValidVersion)),
        (with_version("a", "7"), Err(Error::NoValidVersion)),
        (with_version("../keys", "7"), Err(Error::NoValidSecret)),
        ("{}".to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":null}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":""}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":7}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":7.5}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":true}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":["a"]}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":{"a":"b"}}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":"a/b"}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secret":"a","secret":"b"}"#.to_owned(), Err(Error::NoValidSecret)),
        (r#"{"Secrets":"a"}"#.to_owned(), Err(Error::NoValidSecret)),
        (String::new(), Err(Error::NotAnObject)),
        ("null".to_owned(), Err(Error::NotAnObject)),
        ("[]".to_owned(), Err(Error::NotAnObject)),
        (r#"["a"]"#.to_owned(), Err(Error::NotAnObject)),
        (r#""a""#.to_owned(), Err(Error::NotAnObject)),
        (r#"{"Secret":"a""#.to_owned(), Err(Error::NotAnObject)),
        (r#"{"Secret":"a"}{}"#.to_owned(), Err(Error::NotAnObject)),
        (r#"{"Secret":"a",}"#.to_owned(), Err(Error::NotAnObject)),
        (r#"{'Secret':'a'}"#.to_owned(), Err(Error::NotAnObject)),
        ("Secret=a".to_owned(), Err(Error::NotAnObject)),
        (format!("{{\"x\":{}", "[".repeat(5000)), Err(Error::NotAnObject)),
    ] {
        let request = SingleRequest::parse(body.as_bytes()).map(|request| request.secret);
        let parsed = request
            .as_ref()
            .map(|request| (request.name.as_str(), request.version.as_ref().map(SecretVersion::as_str)));
        assert_eq!(parsed, expected.as_ref().copied(), "{body}");
    }
    assert_eq!(SingleRequest::parse(b"{\"Secret\":\"a\xff\"}"), Err(Error::NotAnObject));
}

fn head(fields: &[(&str, &str)]) -> Head {
    let headers = fields.iter().copied().collect();
    Head { method: Method::POST, target: "/".to_owned(), headers }
}
