use bytes::Bytes;

use super::*;

const QUOTA: Quota = Quota { topics: 3, bytes: 100, topics_per_user: 2, bytes_per_user: 98 };

#[test]
fn a_value_is_seen_when_it_is_shown_not_when_it_is_accepted() {
    let mut retained = Retained::new(QUOTA);
    let value = message("a", "1");
    retained.accept(&value, &"anna".into()).unwrap();
    assert_eq!(seen(&retained, "#"), [""; 0]);
    assert!(retained.is_awaited(&value.topic));
    retained.show(&value);
    assert_eq!(seen(&retained, "#"), ["a=1"]);
    assert!(!retained.is_awaited(&value.topic));
}

#[test]
fn an_empty_message_clears_and_gives_the_room_back() {
    let mut retained = Retained::new(QUOTA);
    put(&mut retained, "a", "1").unwrap();
    put(&mut retained, "a", "").unwrap();
    put(&mut retained, "never", "").unwrap();
    assert_eq!((retained.len(), retained.bytes, retained.users.len()), (0, 0, 0));
}

#[test]
fn quotas_hold_and_replacing_a_value_always_fits() {
    let mut retained = Retained::new(QUOTA);
    put(&mut retained, "a", "1").unwrap();
    put(&mut retained, "b", "1").unwrap();
    assert_eq!(put(&mut retained, "c", "1"), Err(OverQuota::User(2)));
    put(&mut retained, "a", "2").unwrap();
    retained.accept(&message("c", "1"), &"bert".into()).unwrap();
    assert_eq!(retained.accept(&message("d", "1"), &"bert".into()), Err(OverQuota::Topics(3)));
    assert_eq!(put(&mut retained, "a", &"x".repeat(99)), Err(OverQuota::Bytes(100)));
    retained.withdraw(&TopicName::parse("c").unwrap());
    assert_eq!(put(&mut retained, "a", &"x".repeat(96)), Err(OverQuota::UserBytes(98)));
    put(&mut retained, "a", &"x".repeat(95)).unwrap();
    put(&mut retained, "a", &"y".repeat(95)).unwrap();
    assert_eq!(retained.bytes, 98);
}

#[test]
fn a_topic_changes_hands() {
    let mut retained = Retained::new(QUOTA);
    put(&mut retained, "a", "1").unwrap();
    let bert: Arc<str> = "bert".into();
    retained.accept(&message("a", "2"), &bert).unwrap();
    retained.show(&message("a", "2"));
    assert_eq!(retained.users, HashMap::from([(bert, Share { topics: 1, bytes: 2 })]));
}

#[test]
fn filters_find_their_messages() {
    let mut retained =
        Retained::new(Quota { topics: 100, bytes: 1000, topics_per_user: 100, bytes_per_user: 1000 });
    for topic in ["a", "a/b", "a/b/c", "a-z", "ab", "b/b", "$SYS/up"] {
        put(&mut retained, topic, "1").unwrap();
    }
    assert_eq!(seen(&retained, "a/#"), ["a=1", "a/b=1", "a/b/c=1"]);
    assert_eq!(seen(&retained, "+/b"), ["a/b=1", "b/b=1"]);
    assert_eq!(seen(&retained, "a/b"), ["a/b=1"]);
    assert_eq!(seen(&retained, "a/x"), [""; 0]);
    assert_eq!(seen(&retained, "#").len(), 6);
    assert_eq!(seen(&retained, "$SYS/#"), ["$SYS/up=1"]);
}

#[test]
fn looking_for_a_filter_goes_on_where_it_stopped() {
    let mut retained = Retained::new(Quota { topics: 100, bytes: 1000, ..QUOTA });
    for topic in ["a/1/x", "a/2/x", "a/2/y", "a/3/x", "b"] {
        retained.accept(&message(topic, "1"), &topic.into()).unwrap();
        retained.show(&message(topic, "1"));
    }
    let filter = Filter::parse("a/+/x").unwrap();
    let after = TopicName::parse("a/2/x").unwrap();
    let looks: Vec<_> = retained
        .look(&filter, Some(&after))
        .map(|(topic, found)| (topic.as_str(), found.is_some()))
        .collect();
    assert_eq!(looks, [("a/2/y", false), ("a/3/x", true)]);
}

fn put(retained: &mut Retained, topic: &str, payload: &str) -> Result<(), OverQuota> {
    let message = message(topic, payload);
    retained.accept(&message, &"anna".into())?;
    retained.show(&message);
    Ok(())
}

fn message(topic: &str, payload: &str) -> Arc<Message> {
    let topic = TopicName::parse(topic).unwrap();
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Arc::new(Message { payload, ..Message::clearing(topic) })
}

fn seen(retained: &Retained, filter: &str) -> Vec<String> {
    let filter = Filter::parse(filter).unwrap();
    let text = |message: &Arc<Message>| {
        format!("{}={}", message.topic, std::str::from_utf8(&message.payload).unwrap())
    };
    retained.look(&filter, None).filter_map(|(_, message)| message).map(text).collect()
}
