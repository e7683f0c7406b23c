//! The client, under the name that it is installed by.

fn main() -> std::process::ExitCode {
    client::program::main()
}
