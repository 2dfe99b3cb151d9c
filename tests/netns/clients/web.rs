//! curl and wrk against nginx: the page that comes is the page that was put there.

use vswitch_cli::lab::{Host, Process, Topology};

use super::{Dir, OWN_ARGS, Said, content, installed, run, run_well, serve};
use crate::netns::world::Times::Any;
use crate::netns::world::{eventually, world};

const PORT: u16 = 8000;
/// Ten megabytes and an odd rest, as a page is no multiple of anything.
const BIG: usize = 10_000_001;

/// A web server that knows one big and one small page, takes uploads and logs who came.
pub(super) struct Web {
    pub(super) dir: Dir,
    pub(super) big: Vec<u8>,
    _server: Process,
}

impl Web {
    pub(super) fn start(host: &Host, address: std::net::Ipv4Addr, port: u16) -> Self {
        let dir = Dir::new();
        let big = content(BIG);
        dir.write("big", &big);
        dir.write("small", "small\n");
        let at = dir.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
             log_format seen '$remote_addr $request $status';\n\
             access_log {at}/access.log seen;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi;\n\
             scgi_temp_path {at}/scgi;\n\
             client_max_body_size 64m; keepalive_requests 1000000;\n\
             server {{ listen {port} backlog=1024; root {at};\n\
             dav_methods PUT; }} }}\n",
        );
        let config = dir.write("nginx.conf", config);
        let words = format!("nginx -c {config} -p {at} -e {at}/error.log");
        let server = serve(host, &words, address, port);
        Self {
            dir,
            big,
            _server: server,
        }
    }

    /// The addresses that the lines of the access log which end with `what` came from, once there
    /// are so many: the server writes a line when it has sent the page.
    pub(super) fn visitors(&self, what: &str, count: usize) -> Vec<String> {
        let mut visitors = Vec::new();
        eventually(&format!("{count} times {what}"), || {
            visitors = self.visitors_so_far(what);
            visitors.len() >= count
        });
        visitors
    }

    fn visitors_so_far(&self, what: &str) -> Vec<String> {
        let log = String::from_utf8(self.dir.read("access.log")).unwrap();
        let lines = log.lines().filter(|line| line.ends_with(what));
        lines
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    }
}

/// Fetches the big page and puts it back; both must be whole.
pub(super) fn both_ways(client: &Host, web: &Web, base: &str, name: &str) {
    let got = Dir::new();
    let file = got.file("got");
    run_well(client, &format!("curl -sS -m 30 -f -o {file} {base}/big"));
    assert!(got.read("got") == web.big, "the page came back otherwise");
    let put = run_well(
        client,
        &format!("curl -sS -m 30 -f -w %{{http_code}} -T {file} {base}/{name}"),
    );
    put.expect("201");
    assert!(
        web.dir.read(name) == web.big,
        "the page was stored otherwise"
    );
}

#[test]
fn a0_5_curl_and_nginx_move_ten_megabytes_both_ways() {
    if !installed(&["nginx", "curl"]) {
        return;
    }
    for args in ["", OWN_ARGS, "--workers 2"] {
        let Some(world) = world().args(args).start() else {
            return;
        };
        let web = Web::start(world.o(), Topology::OUTSIDE, PORT);
        let base = format!("http://{}:{PORT}", Topology::OUTSIDE);
        std::thread::scope(|scope| {
            for (i, name) in [(1, "from-c1"), (2, "from-c2")] {
                let (world, web, base) = (&world, &web, &base);
                scope.spawn(move || both_ways(world.c(i), web, base, name));
            }
        });
        let external = if args == OWN_ARGS {
            super::OWN
        } else {
            Topology::HOST
        };
        let visitors = web.visitors("GET /big HTTP/1.1 200", 2);
        assert_eq!(visitors, vec![external.to_string(); 2]);
        world.finish(&[("OTHERHOST", Any), ("RING_FULL", Any)]);
    }
}

#[test]
fn a2_13_curl_moves_ten_megabytes_over_a_path_that_narrows() {
    if !installed(&["nginx", "curl"]) {
        return;
    }
    let setup = world().plan(|plan| plan.router_mtu = Some(1280));
    let Some(world) = setup.start() else { return };
    let far = world.net.o2.clone().unwrap();
    let web = Web::start(&far, Topology::BEHIND_ROUTER, PORT);
    let base = format!("http://{}:{PORT}", Topology::BEHIND_ROUTER);
    both_ways(world.c(1), &web, &base, "narrow");
    world.finish(&[]);
}

/// What wrk counted: requests, and no error of any kind.
fn requests(said: &Said) -> u64 {
    for bad in ["Socket errors", "Non-2xx", "unable"] {
        assert!(!said.has(bad), "{:#?}", said.lines);
    }
    let total = said
        .lines
        .iter()
        .find_map(|line| line.trim().split_once(" requests in "));
    let (count, _) = total.unwrap_or_else(|| panic!("{:#?}", said.lines));
    count.parse().unwrap()
}

#[test]
fn a2_1_wrk_sees_no_error_with_and_without_keep_alive() {
    if !installed(&["nginx", "wrk"]) {
        return;
    }
    let Some(world) = world().refusals().args(OWN_ARGS).start() else {
        return;
    };
    let web = Web::start(world.o(), Topology::OUTSIDE, PORT);
    let page = format!("http://{}:{PORT}/small", Topology::OUTSIDE);
    let short = run(
        world.c(1),
        &format!("wrk -t 1 -c 16 -d 2s --timeout 5s -H Connection:close {page}"),
    );
    assert!(requests(&short) > 0);
    let long = run(
        world.c(2),
        &format!("wrk -t 1 -c 16 -d 2s --timeout 5s {page}"),
    );
    assert!(requests(&long) > 0);
    // More may have been answered than wrk waited for.
    let counted = usize::try_from(requests(&short) + requests(&long)).unwrap();
    web.visitors("200", counted);
    world.finish(&[
        ("OTHERHOST", Any),
        ("RING_FULL", Any),
        ("NAT_UNSOLICITED", Any),
    ]);
}

/// Where published ports lead in these tests: to a web server in container 1.
const PUBLISHED: u16 = 8080;

#[test]
fn a6_1_a_published_port_serves_ten_megabytes_and_the_server_sees_the_clients_address() {
    if !installed(&["nginx", "curl", "wrk"]) {
        return;
    }
    for (args, external) in [("", Topology::HOST), (OWN_ARGS, super::OWN)] {
        let args = format!("--publish {PUBLISHED}:10.9.0.2:{PORT} {args}");
        let Some(world) = world().refusals().args(&args).start() else {
            return;
        };
        let web = Web::start(world.c(1), world.ip(1), PORT);
        let base = format!("http://{external}:{PUBLISHED}");
        both_ways(world.o(), &web, &base, "from-o");
        let from_o = [Topology::OUTSIDE.to_string()];
        assert_eq!(web.visitors("GET /big HTTP/1.1 200", 1), from_o);
        assert_eq!(web.visitors("PUT /from-o HTTP/1.1 201", 1), from_o);
        // A second address of the same client is seen as such.
        let second = Topology::OUTSIDE_SECOND;
        let words = format!("curl -sS -m 10 -f --interface {second} {base}/small");
        run_well(world.o(), &words).expect("small");
        let visitors = web.visitors("GET /small HTTP/1.1 200", 1);
        assert_eq!(visitors, [second.to_string()]);
        let words = format!("wrk -t 1 -c 8 -d 1s -H Connection:close {base}/small");
        assert!(requests(&run(world.o(), &words)) > 0);
        world.finish(&[("OTHERHOST", Any), ("RING_FULL", Any)]);
    }
}

#[test]
fn a6_3_a_published_port_is_reached_from_other_containers_and_from_itself() {
    if !installed(&["nginx", "curl"]) {
        return;
    }
    for (args, external) in [("", Topology::HOST), (OWN_ARGS, super::OWN)] {
        let args = format!("--publish {PUBLISHED}:10.9.0.2:{PORT} {args}");
        let Some(world) = world().refusals().args(&args).start() else {
            return;
        };
        let web = Web::start(world.c(1), world.ip(1), PORT);
        let base = format!("http://{external}:{PUBLISHED}");
        for (i, name) in [(2, "from-c2"), (1, "from-c1")] {
            both_ways(world.c(i), &web, &base, name);
            // RFC 5382 REQ-8: a hairpin has the external source.
            let visitors = web.visitors(&format!("PUT /{name} HTTP/1.1 201"), 1);
            assert_eq!(visitors, [external.to_string()]);
        }
        world.finish(&[("OTHERHOST", Any), ("RING_FULL", Any)]);
    }
}

#[test]
fn a1_2_a_container_keeps_one_address_of_the_pool() {
    if !installed(&["nginx", "curl"]) {
        return;
    }
    let args = format!("{OWN_ARGS} --nat-pool 203.0.113.60-203.0.113.67");
    let Some(world) = world().refusals().containers(6).args(&args).start() else {
        return;
    };
    let web = Web::start(world.o(), Topology::OUTSIDE, PORT);
    let mut addresses = Vec::new();
    for i in 1..=6 {
        // One connection for each page.
        let page = format!("http://{}:{PORT}/small?c{i}=", Topology::OUTSIDE);
        let words = format!("curl -sS -m 20 -f -H Connection:close {page}[1-20]");
        run_well(world.c(i), &words);
        let visitors: Vec<String> = (1..=20)
            .flat_map(|n| web.visitors(&format!("GET /small?c{i}={n} HTTP/1.1 200"), 1))
            .collect();
        assert_eq!(visitors.len(), 20);
        assert!(visitors.iter().all(|it| *it == visitors[0]), "{visitors:?}");
        addresses.push(visitors[0].clone());
    }
    addresses.sort();
    addresses.dedup();
    assert!(
        addresses.len() > 1,
        "six containers use one of nine addresses"
    );
    world.finish(&[("OTHERHOST", Any)]);
}
