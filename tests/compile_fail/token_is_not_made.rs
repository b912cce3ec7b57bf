//! A token comes out of a token source's answer, and only the rooms that know Azure read one.

use keyvault_gateway::azure::Answer;
use keyvault_gateway::azure::identity::{Token, TokenSource};
use keyvault_gateway::host::Moment;

fn parse(answer: &Answer, now: Moment) -> Option<Token> {
    Token::read(answer, now, 0)
}

fn receive(source: &TokenSource, answer: Answer, now: Moment) -> Option<Token> {
    source.read(Ok(answer), now, 0).ok()
}

fn main() {
    let _ = (parse, receive);
}
