//! Parse, run, print, exit code; nothing else.
//!
//! What the words mean is decided in `cli`, how results look in `report`.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(kubepki::cli::main(std::env::args_os()) as u8)
}
