//! Nothing turns Azure's answer into ours.

use keyvault_gateway::azure::Answer;
use keyvault_gateway::error::Error;
use keyvault_gateway::reply::Reply;

fn convert(answer: Answer) -> Reply {
    Reply::from(answer)
}

fn wrap(answer: Answer) -> Error {
    answer.into()
}

fn main() {
    let _ = (convert, wrap);
}
