//! The `server` program.

fn main() -> std::process::ExitCode {
    server::program::main()
}
