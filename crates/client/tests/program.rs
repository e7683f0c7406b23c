//! The client as it is run, against servers made of the library, which can do what no server of ours does.

#[cfg(test)]
mod program {
    mod early_end;
    mod hostile_server;

    mod scene;
}
