//! The `client` program.

fn main() -> std::process::ExitCode {
    client::program::main()
}
