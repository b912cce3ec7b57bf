//! The shared store: what one instance writes another one reads, and a store that hangs costs little.

use std::time::Duration;

use crate::scripted::*;
use crate::single_flight::start;

#[test]
fn another_instance_reads_the_token_and_the_secret() {
    let first = with_store(FakeStore::default()).with_script([token(86_400), secret("a", "v")]);
    assert_eq!(outcome(&first.post("/", &request_for("a"))), (200, "OK"));
    let entries = first.world.store.as_ref().unwrap().entries.take();
    assert_eq!(entries.len(), 2);
    let second = with_store(FakeStore { entries: entries.into(), ..FakeStore::default() });
    assert_eq!(body_of(&second.post("/", &request_for("A"))), r#"{"Secret":"A","Value":"v"}"#);
    second.script([secret("b", "w")]);
    assert_eq!(outcome(&second.post("/", &request_for("b"))), (200, "OK"));
    assert_eq!(second.calls().len(), 1);
}

#[test]
fn denial_deletes_the_entry() {
    let gateway = with_store(FakeStore::default()).with_script([token(86_400), secret("a", "v")]);
    gateway.post("/", &request_for("a"));
    gateway.script_after(300, [answer(403, "")]);
    assert_eq!(outcome(&gateway.post("/", &request_for("a"))), (403, "VaultAccessDenied"));
    assert_eq!(gateway.world.store.as_ref().unwrap().entries.borrow().len(), 1);
}

#[test]
fn hanging_store_costs_one_second_in_ten() {
    let gateway = with_store(FakeStore::default());
    let store = gateway.world.store.as_ref().unwrap();
    store.hangs.set(true);
    gateway.script([token(86_400), secret("a", "v"), secret("b", "v"), secret("c", "v")]);
    for (name, calls, seconds) in [("a", 1, 1), ("b", 1, 1), ("c", 2, 12)] {
        if name == "c" {
            gateway.advance(Duration::from_secs(10));
        }
        assert_eq!(outcome(&gateway.post("/", &request_for(name))), (200, "OK"));
        assert_eq!((store.calls.get(), gateway.world.now.get().as_secs()), (calls, seconds), "{name}");
    }
}

#[test]
fn request_that_waits_for_the_store_blocks_no_other() {
    let gateway = with_store(FakeStore::default()).with_script([token(86_400), secret("a", "v")]);
    gateway.post("/", &request_for("a"));
    gateway.world.store.as_ref().unwrap().hangs.set(true);
    let mut waiting = start(&gateway, "b");
    assert_eq!(body_of(&gateway.post("/", &request_for("a"))), r#"{"Secret":"a","Value":"v"}"#);
    gateway.script([secret("b", "w")]);
    gateway.advance(Duration::from_secs(1));
    assert_eq!(outcome(&waiting.reply().unwrap()), (200, "OK"));
}

fn with_store(store: FakeStore) -> Scripted {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    Scripted::with_store(&[("GATEWAY_STORE", "default"), ("GATEWAY_STORE_KEY", key)], store)
}
