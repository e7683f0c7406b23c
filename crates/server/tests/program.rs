//! The server as it is run, against clients made of the library, which can say what no client of ours does.

#[cfg(test)]
mod program {
    mod hostile_client;
}
