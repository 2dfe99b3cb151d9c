//! Which programs a forwarder needs, and where they are.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::BedError;
use crate::bench::words::Forwarder;

/// Where daemons lie, which a user's PATH often leaves out.
const SYSTEM_DIRS: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Where the libraries of a system lie; on some, one more directory down (`x86_64-linux-gnu`).
const LIBRARY_DIRS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
/// Open vSwitch's programs.
pub(super) const OVS: &str = "openvswitch-switch";
const OVS_PROGRAMS: [&str; 4] = ["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"];
/// Where the schema of Open vSwitch's database may be.
const OVS_SCHEMAS: [&str; 2] = [
    "/usr/share/openvswitch/vswitch.ovsschema",
    "/usr/local/share/openvswitch/vswitch.ovsschema",
];
pub(super) const TESTPMD: &str = "dpdk-testpmd";
pub(super) const DPDK: &str = "dpdk-dev librte-meta-net";

/// A program that a forwarder needs and this machine has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// What was looked for.
    pub program: &'static str,
    /// The packages of Debian and its kin that have it, as `apt install` takes them.
    pub package: &'static str,
}

/// What `forwarder` needs for plain switching and this machine has not; runs nothing.
#[must_use]
pub fn missing(forwarder: Forwarder) -> Option<Missing> {
    match forwarder {
        Forwarder::Vswitch | Forwarder::Bridge | Forwarder::Direct => None,
        Forwarder::Ovs | Forwarder::OvsTso => {
            let program = OVS_PROGRAMS.into_iter().find(|name| find(name).is_none());
            let program = program.or_else(|| ovs_schema().is_none().then_some("vswitch.ovsschema"));
            program.map(|program| Missing {
                program,
                package: OVS,
            })
        }
        Forwarder::Testpmd => testpmd("librte_net_af_packet.so"),
        Forwarder::TestpmdXdp => testpmd("librte_net_af_xdp.so"),
        Forwarder::Vde => lacks("vde_switch", "vde2"),
    }
}

/// What `forwarder` needs for NAT besides; runs nothing.
#[must_use]
pub fn missing_for_nat(forwarder: Forwarder) -> Option<Missing> {
    if forwarder == Forwarder::Bridge {
        lacks("nft", "nftables")
    } else {
        missing(forwarder)
    }
}

fn lacks(program: &'static str, package: &'static str) -> Option<Missing> {
    find(program)
        .is_none()
        .then_some(Missing { program, package })
}

fn testpmd(driver: &'static str) -> Option<Missing> {
    let no_driver = || {
        let missing = Missing {
            program: driver,
            package: DPDK,
        };
        (!has_driver(driver)).then_some(missing)
    };
    lacks(TESTPMD, DPDK).or_else(no_driver)
}

/// Whether DPDK's driver is there; where no driver is, they are inside the program.
fn has_driver(driver: &str) -> bool {
    let mut directories = Vec::new();
    for library in LIBRARY_DIRS {
        directories.push(PathBuf::from(library));
        directories.extend(entries(Path::new(library)));
    }
    let dpdk = directories.iter().flat_map(|one| {
        let inner = entries(&one.join("dpdk"));
        inner.into_iter().chain([one.clone()])
    });
    let is_pmds = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("pmds-")
    };
    let pmds: Vec<PathBuf> = dpdk.filter(is_pmds).collect();
    pmds.is_empty() || pmds.iter().any(|pmds| pmds.join(driver).exists())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The schema of Open vSwitch's database.
pub(super) fn ovs_schema() -> Option<&'static str> {
    OVS_SCHEMAS
        .into_iter()
        .find(|path| Path::new(path).exists())
}

/// The program of this name in PATH or where daemons lie.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    let mut candidates = directories.map(|directory| directory.join(program));
    candidates.find(|path| {
        let file = fs::metadata(path);
        file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

/// The program of this name, or how to get it.
pub(super) fn need(program: &'static str, package: &str) -> Result<PathBuf, BedError> {
    find(program).ok_or_else(|| {
        let why = "it is neither in PATH nor where daemons lie";
        BedError::new(
            format!("find {program}"),
            why,
            format!("apt install {package}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_outside_of_path_too() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program"), None);
        let err = need("no-such-program", "nothing").unwrap_err();
        assert!(err.to_string().contains("no-such-program"), "{err}");
        assert_eq!(err.fix, "apt install nothing");
    }

    #[test]
    fn what_is_in_the_kernel_or_here_is_never_missing() {
        for forwarder in [Forwarder::Vswitch, Forwarder::Bridge, Forwarder::Direct] {
            assert_eq!(missing(forwarder), None);
        }
    }
}
