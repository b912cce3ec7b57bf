//! What Azure said can be read only by the rooms that know what it means; others see its status.

use keyvault_gateway::azure::Answer;

fn body(answer: &Answer) -> &[u8] {
    answer.body.expose()
}

fn json(answer: &Answer) -> Option<serde_json::Value> {
    answer.json()
}

fn header(answer: &Answer) -> Option<&str> {
    answer.retry_after.as_deref()
}

fn main() {
    let _ = (body, json, header);
}
