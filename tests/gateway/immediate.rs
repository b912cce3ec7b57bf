//! Replies that need no waiting: which there are, and that they are those of the other way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scripted::*;

#[test]
fn requests_that_need_no_call_are_answered_at_once() {
    let callers = [("GATEWAY_CALLERS", OPS), ("GATEWAY_CACHE_TTL_SECONDS", "100")];
    let gateway = Scripted::new(&callers);
    let ops = [JSON, OPS_KEY];
    let fresh = [JSON, OPS_KEY, ("cache-control", "no-cache")];
    let (a, b, c) = (request_for("ops-a"), request_for("ops-b"), request_for("ops-c"));
    let large = " ".repeat(9000);
    let now = |method, target, fields, body: &str| {
        gateway.answer_now(method, target, fields, body).map(|reply| outcome(&reply).0)
    };
    // Before the settings are loaded.
    assert_eq!(
        ["/healthz", "/openapi.json", "/no"].map(|target| now("GET", target, &[], "")),
        [200, 200, 404].map(Some)
    );
    assert_eq!(["/readyz", "/metrics"].map(|target| now("GET", target, &ops, "")), [None, None]);
    assert_eq!((now("POST", "/", &[], ""), now("POST", "/", &ops, &a)), (None, None));
    gateway.script([token(3600), secret("ops-a", "the value"), not_found()]);
    for (body, status) in [(&a, 200), (&b, 404)] {
        assert_eq!(outcome(&gateway.request("POST", "/", &ops, body)).0, status);
    }
    for (fields, body, expected) in [
        (&ops[..], a.as_str(), Some(200)),
        // The negative cache.
        (&ops, &b, Some(404)),
        (&ops, &c, None),
        (&fresh, &a, Some(200)),
        (&ops, &request_for("db-a"), Some(403)),
        (&[JSON], &a, Some(401)),
        (&[OPS_KEY], &a, Some(415)),
        (&ops, "{}", Some(400)),
        (&ops, &large, Some(413)),
        (&[JSON, ("via", "1.1 proxy"), OPS_KEY], &a, Some(403)),
    ] {
        assert_eq!(now("POST", "/", fields, body), expected, "{fields:?} {body}");
    }
    assert_eq!(["/readyz", "/metrics"].map(|target| now("GET", target, &ops, "")), [Some(200), Some(200)]);
    assert_eq!((now("HEAD", "/healthz", &[], ""), now("DELETE", "/", &ops, "")), (Some(200), Some(405)));
    // Two seconds later `no-cache` needs a call; later a refresh is due; then the value has expired.
    for (seconds, fields) in [(2, &fresh[..]), (90, &ops), (100, &ops)] {
        gateway.advance(std::time::Duration::from_secs(seconds));
        assert_eq!(now("POST", "/", fields, &a), None, "{seconds}");
    }
    assert_eq!(gateway.calls().len(), 3);
}

/// Runs all tests of this program both ways, and compares every reply, log line and call.
#[test]
fn immediate_replies_are_those_of_the_other_way() {
    let run = |name: &str, is_immediate: bool| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--skip", "immediate::"]).env(TRANSCRIPTS, &folder);
        if is_immediate {
            command.env(IMMEDIATE, "1");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let read = files.map(|file| (file.file_name(), fs::read_to_string(file.path()).unwrap()));
        let mut transcripts: BTreeMap<_, _> = read.collect();
        let immediate = transcripts.remove(std::ffi::OsStr::new(IMMEDIATE)).unwrap();
        (transcripts, immediate.len())
    };
    let (waiting, immediate) = (run("waiting", false), run("immediate", true));
    assert!(
        waiting.1 == 0 && immediate.1 > 200 && waiting.0.len() > 80,
        "{} {}",
        immediate.1,
        waiting.0.len()
    );
    for (name, transcript) in &waiting.0 {
        assert_eq!(immediate.0.get(name), Some(transcript), "{name:?}");
    }
}
