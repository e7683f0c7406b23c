//! The server, under the name that it is installed by.

fn main() -> std::process::ExitCode {
    server::program::main()
}
