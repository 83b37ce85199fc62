//! Kernels before Linux 5.6, and filters that do not know the call: paths are resolved without `openat2`.

use crate::support::probe;
use crate::support::skip::skipped;

#[test]
fn everything_is_found_and_refused_alike_without_openat2() {
    const NAME: &str = "everything_is_found_and_refused_alike_without_openat2";
    if !probe::installed("strace") {
        return skipped(NAME, "strace is not installed");
    }
    for error in ["ENOSYS", "EPERM"] {
        for module in ["local_node", "install::links", "install::a_"] {
            let injected = format!("inject=openat2:error={error}");
            let program = std::env::current_exe().unwrap();
            let mut command = std::process::Command::new("strace");
            command.args(["-f", "-o", "/dev/null", "-e", "trace=openat2", "-e", &injected]).arg(program).arg(module);
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{module} with {error}:\n{text}");
            assert!(!text.contains("running 0 tests"), "{module} names no test");
        }
    }
}
