//! IPv6, alone and beside IPv4 on one socket: the same clients over real sockets, with each family's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::live::{Scratch, Server, request};
use super::wire::{self, Wire, until};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

async fn server(args: &[&str]) -> Server {
    Server::start_with(Scratch::new(), &[&["--record", "off"], args].concat(), &[]).await
}

/// The addresses that a client was told, the same of either transport.
fn told(client: &Wire) -> Vec<SocketAddr> {
    let of = |wanted: &str| -> Vec<SocketAddr> {
        client
            .candidates()
            .into_iter()
            .filter(|(transport, _)| transport == wanted)
            .map(|(_, address)| address)
            .collect()
    };
    assert_eq!(of("udp"), of("tcp"));
    of("udp")
}

/// Lets them live until each viewer has had ten packets of both kinds.
async fn all_play(publisher: &mut Wire, viewers: &mut [Wire]) {
    let number = publisher.number();
    let mut wires: Vec<&mut Wire> = vec![publisher];
    wires.extend(viewers);
    until("every viewer is sent sound and picture", &mut wires, |wires| {
        wires[1..].iter().all(|viewer| viewer.received_of(number).iter().all(|received| *received > 10))
    })
    .await;
}

#[tokio::test]
async fn a_server_on_ipv6_alone_is_published_to_and_watched() {
    let server = server(&["--http", "[::1]:0", "--udp", "[::1]:0"]).await;
    let (http, udp) = (server.http, server.udp);
    assert_eq!(
        server.lines,
        [format!("listening http://[::1]:{}", http.port()), format!("listening udp [::1]:{}", udp.port())]
    );
    let mut publisher = wire::live_from(V6, &server, 1, "r/u").await;
    let mut viewers = [Wire::play_from(V6, &server, 2, "r/u").await, Wire::play_from(V6, &server, 3, "r/u").await];
    assert_eq!(told(&publisher), [udp]);
    all_play(&mut publisher, &mut viewers).await;
    server.stop().await;
}

#[tokio::test]
async fn one_socket_serves_both_families_and_tells_neither_from_the_other() {
    let server =
        server(&["--http", "[::]:0", "--udp", "[::]:0", "--public-ip", "127.0.0.1", "--public-ip", "::1"]).await;
    let (http, udp) = (server.http.port(), server.udp.port());
    for ip in [V4, V6] {
        let health = request(SocketAddr::new(ip, http), "GET", "/healthz", &[], b"").await;
        assert_eq!(health.text(), "ok\n", "{ip}");
    }
    for (from, to) in [(V4, V6), (V6, V4)] {
        let mut publisher = wire::live_from(from, &server, 1, &format!("r/from-{}", from.is_ipv4())).await;
        assert_eq!(told(&publisher), [SocketAddr::new(V4, udp), SocketAddr::new(V6, udp)]);
        let broadcast = format!("r/from-{}", from.is_ipv4());
        let mut viewers =
            [Wire::play_from(to, &server, 2, &broadcast).await, Wire::play_from(from, &server, 3, &broadcast).await];
        all_play(&mut publisher, &mut viewers).await;
        // A client that changes its address within its family is followed.
        let [viewer, _] = &mut viewers;
        viewer.restart_ice(&server).await;
        viewer.move_away().await;
        let before = viewer.received_of(1);
        until("the viewer is sent more", &mut [&mut publisher, viewer], |wires| {
            let now = wires[1].received_of(1);
            now.iter().zip(before).all(|(now, before)| *now > before + 10)
        })
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_ipv6_address_told_for_another_is_a_candidate_in_its_form() {
    let public = ["--public-ip", "2001:db8::7", "--public-ip", "[2001:db8::8]:9189"];
    let server = server(&[&["--http", "[::1]:0", "--udp", "[::1]:0"][..], &public].concat()).await;
    let publisher = Wire::publish_from(V6, &server, 1, "r/u").await;
    let public = [format!("[2001:db8::7]:{}", server.udp.port()), "[2001:db8::8]:9189".to_owned()];
    assert_eq!(told(&publisher), public.map(|address| address.parse().unwrap()));
    server.stop().await;
}

#[tokio::test]
async fn pages_of_an_ipv6_address_are_the_servers_own() {
    let server = server(&["--http", "[::]:0", "--udp", "[::]:0", "--allow-origin", "http://[2001:db8::9]:8000"]).await;
    let port = server.http.port();
    let host = format!("[::1]:{port}");
    for (origin, status) in [
        (format!("http://[::1]:{port}"), 200),
        ("http://[2001:DB8::9]:8000".to_owned(), 200),
        (format!("http://[::2]:{port}"), 403),
        ("http://[::1]".to_owned(), 403),
        (format!("http://[::1]:{}", port ^ 1), 403),
    ] {
        let headers = [("Host", host.as_str()), ("Origin", origin.as_str())];
        let answer = request(SocketAddr::new(V6, port), "GET", "/api/broadcasts", &headers, b"").await;
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_ipv4_client_of_both_families_socket_is_written_as_one() {
    let scratch = Scratch::new();
    let directory = scratch.path().to_str().unwrap().to_owned();
    let args = ["--http", "[::]:0", "--udp", "[::]:0", "--record", "off", "--log", "debug", "--tls-self-signed"];
    let mut server = Server::start_with(scratch, &[&args[..], &["--tls-dir", &directory]].concat(), &[]).await;
    request(SocketAddr::new(V4, server.http.port()), "GET", "/", &[], b"").await;
    let said = server.logged("no TLS").await;
    assert!(said.contains("remote=127.0.0.1:"), "{said}");
    server.stop().await;
}
