//! The shared store: what one instance writes another one reads, and a store that hangs costs little.

use std::time::Duration;

use crate::scripted::*;
use crate::single_flight::start;

#[test]
fn another_instance_reads_the_token_and_the_secret() {
    let first = with_store(&[]).with_script([token(86_400), secret("a", "v")]);
    assert_eq!(first.read("a"), (200, "OK"));
    let entries = first.world.store.as_ref().unwrap().entries.take();
    assert_eq!(entries.len(), 2);
    let second = with_store(&[]);
    second.world.store.as_ref().unwrap().entries.replace(entries);
    assert_eq!(body_of(&second.post("/", &request_for("A"))), r#"{"Secret":"A","Value":"v"}"#);
    second.script([secret("b", "w")]);
    assert_eq!(second.read("b"), (200, "OK"));
    assert_eq!(second.calls().len(), 1);
}

/// Also if the store hangs when the entry should be deleted: after that it is not read.
#[test]
fn denied_secret_is_not_read_from_the_store() {
    for hangs in [false, true] {
        let gateway = with_store(&[]).with_script([token(86_400), secret("a", "v")]);
        let store = gateway.world.store.as_ref().unwrap();
        assert_eq!(gateway.read("a"), (200, "OK"));
        gateway.script_after(10, [answer(403, "")]);
        store.hangs.set(hangs);
        assert_eq!(outcome(&gateway.post_no_cache(&request_for("a"))), (403, "VaultAccessDenied"));
        store.hangs.set(false);
        assert_eq!(store.entries.borrow().len(), if hangs { 2 } else { 1 });
        gateway.script_after(20, [answer(403, "")]);
        assert_eq!(gateway.read("a"), (403, "VaultAccessDenied"), "{hangs}");
    }
}

/// A client that sends its body late has little time left, which is no fault of the store.
#[test]
fn late_body_does_not_pause_the_store() {
    let gateway = with_store(&[("GATEWAY_DEADLINE_SECONDS", "1")]);
    let store = gateway.world.store.as_ref().unwrap();
    store.hangs.set(true);
    gateway.world.body_time.set(Duration::from_millis(400));
    assert_eq!(gateway.read("a"), (504, "Timeout"));
    gateway.world.body_time.set(Duration::ZERO);
    store.hangs.set(false);
    gateway.script([token(86_400), secret("a", "v")]);
    assert_eq!((gateway.read("a"), store.calls.get() > 1), ((200, "OK"), true));
}

#[test]
fn hanging_store_costs_one_second_in_ten() {
    let gateway = with_store(&[]);
    let store = gateway.world.store.as_ref().unwrap();
    store.hangs.set(true);
    gateway.script([token(86_400), secret("a", "v"), secret("b", "v"), secret("c", "v")]);
    for (name, calls, seconds) in [("a", 1, 1), ("b", 1, 1), ("c", 2, 12)] {
        if name == "c" {
            gateway.advance(Duration::from_secs(10));
        }
        assert_eq!(gateway.read(name), (200, "OK"));
        assert_eq!((store.calls.get(), gateway.world.now.get().as_secs()), (calls, seconds), "{name}");
    }
}

#[test]
fn request_that_waits_for_the_store_blocks_no_other() {
    let gateway = with_store(&[]).with_script([token(86_400), secret("a", "v")]);
    gateway.post("/", &request_for("a"));
    gateway.world.store.as_ref().unwrap().hangs.set(true);
    let mut waiting = start(&gateway, "b");
    assert_eq!(body_of(&gateway.post("/", &request_for("a"))), r#"{"Secret":"a","Value":"v"}"#);
    gateway.script([secret("b", "w")]);
    gateway.advance(Duration::from_secs(1));
    assert_eq!(outcome(&waiting.reply().unwrap()), (200, "OK"));
}

fn with_store(settings: &[(&str, &str)]) -> Scripted {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let store = [("GATEWAY_STORE", "default"), ("GATEWAY_STORE_KEY", key)];
    Scripted::new(&[&store, settings].concat())
}
