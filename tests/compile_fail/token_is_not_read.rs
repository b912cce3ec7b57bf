//! Outside of the rooms that know Azure nobody can read a token, so nobody can send it anywhere.

use keyvault_gateway::azure::identity::Token;

fn read(token: &Token) -> [&str; 2] {
    [token.value.expose(), token.expose()]
}

fn print(token: &Token) {
    println!("{token}");
    let _ = serde_json::to_string(token);
}

fn main() {
    let _ = (read, print);
}
