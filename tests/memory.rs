//! The memory of subscriptions, of the index of retained messages and of what waits in queues: bytes for each, as counted by the allocator. The
//! test has a process of its own, so that nothing else allocates meanwhile.

mod support;

use std::time::Instant;

use mosquitto_http_auth::internals::{Domain, Fingerprinter, Queues, Retained, Subscriptions, Whose};
use support::allocator::{Counting, bytes_in_use};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many devices, each with its own commands and what is for all.
fn fleet(devices: usize) -> Subscriptions {
    let now = Instant::now();
    let mut subscriptions = Subscriptions::default();
    for n in 0..devices {
        let id = format!("device-{n:06}");
        subscriptions.add(&id, &id, &format!("cmd/{id}/#"), now);
        subscriptions.add(&id, &id, "broadcast/+", now);
    }
    subscriptions
}

/// The bytes that are taken by what `make` makes.
fn bytes_of<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = bytes_in_use();
    let made = make();
    (made, bytes_in_use() - before)
}

// One test: others would allocate beside it.
#[test]
fn a_subscription_takes_little_and_no_more_than_it_is_charged() {
    for devices in [1_000, 10_000, 57_000, 60_000, 100_000] {
        let before = bytes_in_use();
        let (fleet, bytes) = bytes_of(|| fleet(devices));
        let each = bytes / fleet.len();
        println!(
            "{devices} devices: {each} bytes for each of {} subscriptions, charged {}",
            fleet.len(),
            fleet.charged() / fleet.len()
        );
        assert!(each < 250, "{each} bytes for each subscription");
        assert!(bytes <= fleet.charged(), "{bytes} bytes, but only {} are charged", fleet.charged());
        drop(fleet);
        // But for what the test's own thread and output took meanwhile.
        let left = bytes_in_use().saturating_sub(before);
        assert!(left < 4096, "{left} bytes are left when all is forgotten");
    }

    // Filters as long and deep as the broker takes them, and none that begins like another.
    let (hostile, bytes) = bytes_of(|| {
        let mut subscriptions = Subscriptions::default();
        for n in 0..1_000 {
            let filter = format!("{n}{}", format!("/{}", "x".repeat(300)).repeat(200));
            subscriptions.add(&format!("c{}", n / 200), "hostile", &filter, Instant::now());
        }
        subscriptions
    });
    println!(
        "deep filters: {} bytes for each, charged {}",
        bytes / hostile.len(),
        hostile.charged() / hostile.len()
    );
    assert!(bytes <= hostile.charged(), "{bytes} bytes, but only {} are charged", hostile.charged());

    for (topics, level, each) in
        [(1_000, "t", 1), (30_000, "t", 30_000), (60_000, "s", 2), (100_000, "", 1000)]
    {
        let (retained, bytes) = bytes_of(|| retained(topics, level, each));
        let (each, charged) = (bytes / retained.len(), retained.charged() / retained.len());
        println!("{topics} retained topics: {each} bytes for each, charged {charged}");
        assert!(bytes <= retained.charged(), "{bytes} bytes, but only {} are charged", retained.charged());
    }

    for (clients, topics) in [(1, 1), (1_000, 1), (500, 29), (20, 900)] {
        let (queues, bytes) = bytes_of(|| queues(clients, topics));
        println!("{clients} queues of {topics}: {bytes} bytes, charged {}", queues.charged());
        assert!(bytes <= queues.charged(), "{bytes} bytes, but only {} are charged", queues.charged());
    }
}

/// So many topics for each of so many clients that sleep.
fn queues(clients: usize, topics: usize) -> Queues {
    let keys = Fingerprinter::with_key(&[3; 16]);
    let mut queues = Queues::default();
    for client in 0..clients {
        let key = keys.fields(Domain::Client, [&client.to_le_bytes()]);
        (0..topics).for_each(|topic| queues.note(key, client as u64, &format!("news/{topic:03}")));
    }
    queues
}

/// So many topics, `each` of them by one client.
fn retained(topics: usize, level: &str, each: usize) -> Retained {
    let now = Instant::now();
    let mut retained = Retained::default();
    for n in 0..topics {
        // In no order.
        let number = n.wrapping_mul(0x9e37_79b9) % 1_000_003;
        let id = format!("device-{:06}", n / each);
        let whose = Whose { client_id: &id, username: &id, publishes: true };
        retained.keep(&format!("state/{number:07}/{level}"), whose, now);
    }
    retained
}
