//! All that is tried, in the order of the page.

use super::{Scenario, scenarios as s, tcp as t};

const fn try_it(name: &'static str, run: fn(&mut super::bed::Bed)) -> Scenario {
    Scenario { name, run }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    try_it("a datagram out, and its answer", s::udp_out_and_back),
    try_it("a datagram from a port below 1024", s::udp_low_port),
    try_it("one socket to two servers", s::udp_two_servers),
    try_it(
        "two containers, one source port, one server",
        s::udp_same_port_one_server,
    ),
    try_it(
        "two containers, one source port, two servers",
        s::udp_same_port_two_servers,
    ),
    try_it(
        "a socket whose port was taken, to two servers",
        s::udp_collided_two_servers,
    ),
    try_it(
        "an answer from another port of the server",
        s::udp_other_port_of_server,
    ),
    try_it("an answer from another server", s::udp_other_server),
    try_it("a datagram nobody asked for", s::udp_unasked),
    try_it(
        "two containers by each other's external address",
        s::udp_hairpin,
    ),
    try_it(
        "a socket to its own external address",
        s::udp_hairpin_to_oneself,
    ),
    try_it("datagrams without a checksum", s::udp_no_sum),
    try_it("a datagram with a wrong checksum, out", s::udp_wrong_sum),
    try_it(
        "a datagram with a wrong checksum, in",
        s::udp_wrong_sum_back,
    ),
    try_it("a datagram whose length is a lie", s::udp_long_length),
    try_it("an empty datagram", s::udp_empty),
    try_it("echo", s::icmp_echo),
    try_it("timestamp", s::icmp_timestamp),
    try_it("address mask request", s::icmp_mask),
    try_it("information request", s::icmp_information),
    try_it("router solicitation", s::icmp_router_solicitation),
    try_it(
        "echo with one identifier from two containers to one server",
        s::icmp_same_identifier,
    ),
    try_it(
        "echo with one identifier from two containers to two servers",
        s::icmp_same_identifier_two_servers,
    ),
    try_it("an echo reply nobody asked for", s::icmp_unasked_reply),
    try_it("echo to the external address", s::icmp_echo_to_external),
    try_it("echo with a wrong checksum", s::icmp_wrong_sum),
    try_it(
        "destination unreachable, codes 0 to 5, 9, 10, 13",
        s::errors_of_destination,
    ),
    try_it("time exceeded, codes 0 and 1", s::errors_of_time),
    try_it("parameter problem", s::error_of_parameter),
    try_it("source quench", s::error_quench),
    try_it("redirect", s::error_redirect),
    try_it("an error from a third address", s::error_of_a_router),
    try_it(
        "an error about a packet nobody sent",
        s::error_about_nothing,
    ),
    try_it(
        "an error that quotes eight bytes",
        s::error_with_short_quote,
    ),
    try_it("an error that quotes four bytes", s::error_with_tiny_quote),
    try_it(
        "an error whose quoted header has a wrong checksum",
        s::error_with_wrong_quoted_header_sum,
    ),
    try_it(
        "an error whose quoted datagram has a wrong checksum",
        s::error_with_wrong_quoted_transport_sum,
    ),
    try_it("an error with a wrong checksum", s::error_with_wrong_sum),
    try_it("an error from inside", s::error_from_inside),
    try_it("an error about an echo", s::error_about_an_echo),
    try_it("TTL 1 and 2, out", s::ttl_expires_on_the_way_out),
    try_it("TTL 1, in", s::ttl_expires_on_the_way_in),
    try_it(
        "too big for the uplink, with and without DF",
        s::too_big_for_the_uplink,
    ),
    try_it("the identification without and with DF", s::identification),
    try_it("fragments out, in order", s::fragments_out),
    try_it("fragments out, reversed", s::fragments_out_reversed),
    try_it("fragments in, in order", s::fragments_in),
    try_it("fragments in, reversed", s::fragments_in_reversed),
    try_it("fragments out, the first one twice", s::fragments_doubled),
    try_it(
        "fragments without the first one",
        s::fragments_without_the_first,
    ),
    try_it("fragments that overlap", s::fragments_that_overlap),
    try_it("a TCP header in three fragments", s::fragments_too_tiny),
    try_it(
        "a container's address from outside",
        s::inside_address_from_outside,
    ),
    try_it(
        "sources 192.0.2.1, 127.0.0.1, 224.0.0.1 and EXT from inside",
        s::foreign_source_from_inside,
    ),
    try_it(
        "destinations 127.0.0.1, 0.0.0.0 and 240.0.0.1 from inside",
        s::strange_destinations_from_inside,
    ),
    try_it(
        "destination 127.0.0.1 from outside",
        s::loopback_from_outside,
    ),
    try_it("a source route", s::source_route),
    try_it("options that do nothing", s::harmless_options),
    try_it(
        "protocols 47, 50 and 253, out and in",
        s::protocol_without_ports,
    ),
    try_it(
        "a protocol without ports from two containers to one server",
        s::protocol_of_two_hosts,
    ),
    try_it("a protocol nobody asked for", s::protocol_unasked),
    try_it("SCTP from two containers with one source port", s::sctp_out),
    try_it("a handshake and data", t::handshake),
    try_it(
        "TCP: two containers, one source port, one server",
        t::same_port_one_server,
    ),
    try_it(
        "TCP: two containers, one source port, two servers",
        t::same_port_two_servers,
    ),
    try_it(
        "TCP: one source port to two servers",
        t::one_port_two_servers,
    ),
    try_it("a simultaneous open", t::simultaneous_open),
    try_it("a SYN twice", t::syn_repeated),
    try_it("a SYN with data", t::syn_with_data),
    try_it("SYN, SYN+ACK, ACK, FIN, RST nobody asked for", t::unasked),
    try_it(
        "a SYN to the port of a connection, from elsewhere",
        t::unasked_syn_at_a_mapping,
    ),
    try_it(
        "a connection picked up in mid-stream",
        t::picked_up_in_mid_stream,
    ),
    try_it("flags no TCP sends", t::forbidden_flags),
    try_it(
        "SYN+ACK, FIN, RST from inside without a connection",
        t::opened_by_something_else,
    ),
    try_it("data beyond the window, out", t::data_beyond_the_window_out),
    try_it(
        "data beyond the window, in, then data in it",
        t::data_beyond_the_window_in,
    ),
    try_it("a reset", t::reset_exact),
    try_it(
        "a forged reset in the window, then data",
        t::reset_in_window_then_data,
    ),
    try_it(
        "a forged reset beyond the window, then data",
        t::reset_beyond_the_window_then_data,
    ),
    try_it(
        "a reset from inside beyond the window",
        t::reset_out_beyond_the_window,
    ),
    try_it("a segment with a wrong checksum", t::wrong_sum),
    try_it(
        "a connection closed, and opened again from the same port",
        t::closed_and_opened_again,
    ),
    try_it("a SYN by the external address of a connection", t::hairpin),
    try_it("a published port", t::published_tcp),
    try_it("a published port of UDP", t::published_udp),
    try_it("a published port nobody listens on", t::published_refused),
    try_it(
        "a published port of UDP nobody listens on",
        t::published_unreachable,
    ),
    try_it(
        "a published port of UDP from another container",
        t::published_from_another_container,
    ),
    try_it(
        "a published port from another container",
        t::published_tcp_from_another_container,
    ),
    try_it(
        "a published port from the container behind it",
        t::published_from_itself,
    ),
    try_it(
        "the server behind a published port speaks first",
        t::published_server_speaks_first,
    ),
    try_it("fragments to a published port", t::published_in_fragments),
    try_it(
        "an ACK in mid-stream to a published port",
        t::published_syn_in_mid_stream,
    ),
];
