//! The server program against clients made of the library, which can send what the client program never sends.

#[cfg(test)]
mod program {
    mod hostile_client;
}
