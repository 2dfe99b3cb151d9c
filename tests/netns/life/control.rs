//! Several switches on one host, and the ways to speak to each.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::bed::Bed;

/// Sends a request as `curl --unix-socket` does, and gives status line and body.
fn curl(bed: &Bed, name: &str, method: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = UnixStream::connect(bed.run_dir().join(format!("{name}.sock"))).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: v\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Goal: two switches on one host are two networks, each with its name, socket and host port.
#[test]
fn two_switches_on_one_host() {
    let Some(bed) = Bed::new(4) else { return };
    let before = bed.snapshot();
    let red = bed.start("--name red --ports veth1,veth2 --no-host-port");
    let blue = bed.start("--name blue --ports veth3,veth4");
    assert!(bed.reaches(bed.net.c(1), bed.net.ip(2)));
    assert!(bed.reaches(bed.net.c(3), bed.net.ip(4)));
    assert!(
        !bed.reaches(bed.net.c(1), bed.net.ip(3)),
        "they are two networks"
    );
    let before_noun = bed.json("--name blue port");
    let behind_noun = bed.json("port --name blue");
    let names = |ports: &serde_json::Value| -> Vec<String> {
        let ports = ports.as_array().unwrap().iter();
        ports
            .map(|port| port["ifname"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&before_noun), ["veth3", "veth4", "blue"]);
    assert_eq!(names(&behind_noun), ["veth3", "veth4", "blue"]);
    let by_variable = bed
        .command("-j port")
        .env("VSWITCH_NAME", "red")
        .output()
        .unwrap();
    let by_variable = serde_json::from_slice(&by_variable.stdout).unwrap();
    assert_eq!(names(&by_variable), ["veth1", "veth2"]);
    let (code, line) = bed.refused("status");
    assert_eq!(code, 3, "{line}");
    assert!(
        line.starts_with("error: no vswitch named vswitch0 is running: "),
        "{line}"
    );
    blue.end(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(bed.refused("--name blue status").0, 3);
    assert!(
        bed.reaches(bed.net.c(1), bed.net.ip(2)),
        "the other goes on"
    );
    red.ends_as_before(&before);
}

/// Goal: any HTTP client can ask and change.
#[test]
fn plain_http_over_the_socket() {
    let Some(bed) = Bed::new(2) else { return };
    let running = bed.start("--ports veth1");
    assert!(bed.reaches(bed.net.c(1), bed.net.gateway()));
    for path in ["/ports", "/fdb", "/neigh", "/nat", "/drops", "/status"] {
        let (status, body) = curl(&bed, "vswitch0", "GET", path, "");
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
        let noun = match path {
            "/ports" => "port",
            other => &other[1..],
        };
        let by_client = bed.json(noun);
        let by_curl: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(by_curl.is_array(), by_client.is_array(), "{path}");
    }
    let (_, fdb) = curl(&bed, "vswitch0", "GET", "/fdb", "");
    assert!(fdb.contains("\"ifname\":\"veth1\""), "{fdb}");
    let (status, body) = curl(&bed, "vswitch0", "POST", "/ports", "{\"port\":\"veth2\"}");
    assert_eq!(
        (status.as_str(), body.contains("veth2 added")),
        ("HTTP/1.1 200 OK", true),
        "{body}"
    );
    assert!(bed.reaches(bed.net.c(2), bed.net.ip(1)));
    let (status, _) = curl(&bed, "vswitch0", "DELETE", "/ports/veth2", "");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (status, body) = curl(&bed, "vswitch0", "GET", "/nothing", "");
    assert_eq!(status, "HTTP/1.1 404 Not Found", "{body}");
    drop(running);
}
