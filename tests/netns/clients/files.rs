//! FTP and TFTP: protocols that tell addresses and ports in their payload, or answer from another
//! port; what needs no helper works without, what needs one works only with it.

use std::net::Ipv4Addr;

use vswitch_cli::lab::{Process, Topology};

use super::{Dir, OWN_ARGS, content, installed, run, run_well, serve};
use crate::netns::world::Times::{Any, AtLeast};
use crate::netns::world::{World, eventually, world};

const SIZE: usize = 300_001;
const FTP_PORT: u16 = 21;

/// An FTP server outside that lets anybody read `page` and store into `in/`.
struct Ftp {
    dir: Dir,
    page: Vec<u8>,
    _server: Process,
}

impl Ftp {
    fn start(world: &World) -> Self {
        let (dir, page) = (Dir::new(), content(SIZE));
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("in")).unwrap();
        open_to_all(&root.join("in"), 0o777);
        open_to_all(&root, 0o755);
        dir.write("root/page", &page);
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let config = format!(
            "listen=YES\nbackground=NO\nlisten_address={}\nlisten_port={FTP_PORT}\n\
             anonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\nwrite_enable=YES\n\
             anon_upload_enable=YES\nanon_umask=022\nanon_root={}\nsecure_chroot_dir={}\n\
             seccomp_sandbox=NO\nxferlog_enable=NO\nconnect_from_port_20=YES\nhide_ids=YES\n",
            Topology::OUTSIDE,
            root.display(),
            empty.display(),
        );
        let config = dir.write("vsftpd.conf", config);
        open_to_all(std::path::Path::new(&config), 0o644);
        let words = format!("vsftpd {config}");
        let server = serve(world.o(), &words, Topology::OUTSIDE, FTP_PORT);
        Self {
            dir,
            page,
            _server: server,
        }
    }
}

fn open_to_all(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// How the data connection is made, in curl's words.
const PASSIVE: [&str; 2] = ["--ftp-pasv --disable-epsv", "--ftp-pasv"];
const ACTIVE: [&str; 2] = ["-P - --disable-eprt", "-P -"];

/// Fetches and stores a file by curl.
fn fetch_and_store(world: &World, i: usize, ftp: &Ftp, how: &str, name: &str) {
    let (got, base) = (Dir::new(), format!("ftp://{}", Topology::OUTSIDE));
    let file = got.file("page");
    run_well(
        world.c(i),
        &format!("curl -sS -m 10 {how} -o {file} {base}/page"),
    );
    assert!(got.read("page") == ftp.page, "{how}: another page");
    run_well(
        world.c(i),
        &format!("curl -sS -m 10 {how} -T {file} {base}/in/{name}"),
    );
    assert!(
        ftp.dir.read(&format!("root/in/{name}")) == ftp.page,
        "{how}: stored otherwise"
    );
}

#[test]
fn a5_5_passive_ftp_needs_no_helper_and_active_ftp_does() {
    if !installed(&["vsftpd", "curl"]) {
        return;
    }
    let Some(world) = world().start() else { return };
    let ftp = Ftp::start(&world);
    for (number, how) in PASSIVE.into_iter().enumerate() {
        fetch_and_store(&world, 1, &ftp, how, &format!("passive{number}"));
    }
    for how in ACTIVE {
        let words = format!("curl -sS -m 3 {how} ftp://{}/page", Topology::OUTSIDE);
        let said = run(world.c(1), &words);
        assert!(!said.success, "{words} works without a helper");
    }
    world.finish(&[]);
}

#[test]
fn a5_5_active_ftp_works_with_the_helper() {
    if !installed(&["vsftpd", "curl", "lftp"]) {
        return;
    }
    for args in ["", OWN_ARGS] {
        let args = format!("--nat-helpers ftp {args}");
        let Some(world) = world().args(&args).start() else {
            return;
        };
        let ftp = Ftp::start(&world);
        for (number, how) in ACTIVE.into_iter().chain(PASSIVE).enumerate() {
            for i in [1, 2] {
                fetch_and_store(&world, i, &ftp, how, &format!("helped{number}-{i}"));
            }
        }
        lftp_fetches_twice(&world, &ftp);
        world.finish(&[("OTHERHOST", Any)]);
    }
}

/// Several files over one control connection, in active mode.
fn lftp_fetches_twice(world: &World, ftp: &Ftp) {
    let got = Dir::new();
    let commands = format!(
        "set ftp:passive-mode no\nset net:timeout 5\nset net:max-retries 1\n\
         open -u anonymous,none {}\nlcd {}\nget page\nget page -o again\n",
        Topology::OUTSIDE,
        got.path().display()
    );
    let script = got.write("script", commands);
    run_well(world.c(1), &format!("lftp -f {script}"));
    for name in ["page", "again"] {
        assert!(got.read(name) == ftp.page, "{name} came otherwise");
    }
}

/// A TFTP server outside.
struct Tftp {
    dir: Dir,
    page: Vec<u8>,
    _server: Process,
}

impl Tftp {
    fn start(world: &World) -> Self {
        let (dir, page) = (Dir::new(), content(50_001));
        dir.write("page", &page);
        open_to_all(dir.path(), 0o755);
        let words = format!(
            "in.tftpd -L -4 -u root -a {}:69 -s {}",
            Topology::OUTSIDE,
            dir.path().display()
        );
        let server = world.o().spawn(&mut super::command(&words)).unwrap();
        let fetches = || {
            let words = format!(
                "curl -sS -m 2 -o /dev/null tftp://{}/page",
                Topology::OUTSIDE
            );
            run(world.o(), &words).success
        };
        eventually("the TFTP server answers", fetches);
        Self {
            dir,
            page,
            _server: server,
        }
    }
}

#[test]
fn a5_5_tftp_answers_from_another_port_need_the_helper() {
    if !installed(&["in.tftpd", "tftp", "curl"]) {
        return;
    }
    let get = |world: &World, i: usize, server: Ipv4Addr| {
        let got = Dir::new();
        let words = format!("curl -sS -m 3 -o {} tftp://{server}/page", got.file("page"));
        let success = run(world.c(i), &words).success;
        success.then(|| got.read("page"))
    };
    let Some(without) = world().start() else {
        return;
    };
    let tftp = Tftp::start(&without);
    assert!(
        get(&without, 1, Topology::OUTSIDE).is_none(),
        "it works without a helper"
    );
    without.finish(&[("NAT_UNSOLICITED", AtLeast(1))]);
    drop(tftp);
    for args in [
        "--nat-helpers tftp",
        "--nat-helpers tftp --workers 2",
        "--nat-filter udp=eif",
    ] {
        let Some(world) = world().args(args).start() else {
            return;
        };
        let tftp = Tftp::start(&world);
        for i in [1, 2] {
            let page = get(&world, i, Topology::OUTSIDE);
            assert!(
                page.as_ref() == Some(&tftp.page),
                "{args}: another page, or none"
            );
        }
        let got = Dir::new();
        let line = format!(
            "cd {} && tftp {} -m octet -c get page",
            got.path().display(),
            Topology::OUTSIDE
        );
        assert!(super::shell(world.c(1), &line).success);
        assert!(
            got.read("page") == tftp.dir.read("page"),
            "tftp got another page"
        );
        world.finish(&[]);
    }
}
