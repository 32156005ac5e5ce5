//! Whose sockets those are is also known of clients that logged in before anybody looked.

use super::Stage;
use crate::support::{Client, Connect, Protocol, Version, eventually, on_every_broker};
use crate::support::{PATIENCE, reason};

const CLIENTS: usize = 5;

/// Has clients send that have long been in, and sees what is asked.
fn assert_known(stage: &mut Stage, mut clients: Vec<Client>) {
    stage.api.forget_requests();
    stage.freeze_in_front_of(|_| {
        for client in &mut clients {
            let subscribe = client.subscribe_packet(&[("in/#", 0)]);
            let publish = client.publish_packet(b"out", b"x", 0, false);
            client.send(&[subscribe, publish].concat());
        }
    });
    let topics = |n| [format!("old/c{n} subscribe in/#"), format!("old/c{n} write out")];
    stage.assert_asked((0..CLIENTS).flat_map(topics));
    stage.thaw();
    clients.iter_mut().for_each(|client| assert_eq!(client.suback(), [0]));
}

fn old_clients(stage: &Stage, connect: fn(String) -> Connect) -> Vec<Client> {
    // One after the other: nothing waits unread while the broker waits for their logins.
    let old = |n| connect(format!("c{n}")).login("old", "right").accepted(stage.broker.port());
    (0..CLIENTS).map(old).collect()
}

/// Also where the broker is not root any more.
#[test]
fn who_logged_in_alone_is_known_by_its_socket() {
    on_every_broker(|version| {
        for connect in [Connect::v3 as fn(String) -> Connect, Connect::v5] {
            let mut stage = Stage::with(version, |setup| setup.run_as("nobody"));
            let clients = old_clients(&stage, connect);
            assert_known(&mut stage, clients);
        }
    });
}

#[test]
fn on_2_1_who_waited_beside_the_loop_is_known_by_its_socket() {
    let mut stage = Stage::start(Version::V2_1, |setup| setup.option("auth_mode", "delayed"));
    let clients = old_clients(&stage, Connect::v5);
    assert_known(&mut stage, clients);
}

/// Whoever gets the place in memory of another gets no questions in its name.
#[test]
fn who_comes_after_another_is_not_taken_for_it() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        old_clients(&stage, Connect::v5).into_iter().for_each(Client::disconnect);
        let closed = || stage.broker.log().matches("disconnected").count() >= CLIENTS;
        assert!(eventually(PATIENCE, closed));
        let mut strangers = stage.connections(3 * CLIENTS, Protocol::V5);
        stage.api.forget_requests();
        stage.freeze_in_front_of(|_| {
            for stranger in &mut strangers {
                let subscribe = stranger.subscribe_packet(&[("in/#", 0)]);
                stranger.send(&subscribe);
            }
        });
        stage.fence();
        assert_eq!(stage.asked(), [""; 0]);
        stage.thaw();
        let mut late = Connect::v5("late").login("late", "right").send(stage.broker.port());
        assert_eq!(late.connack(PATIENCE), Some(reason::SUCCESS));
    });
}
