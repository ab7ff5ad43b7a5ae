//! Documents of rollouts.

use schemas::{
    id::PublicKey,
    order::Order,
    rollout::{Course, Planned},
    seal::{Document as _, Own, Signed},
};
use serde_json::json;

use super::{Attempt, Decoded, Judge, Signatures, judged, no_root, readable};

/// What people want of a rollout, with its mandate and its release.
pub(super) fn planned(bytes: &[u8], judge: Option<&Judge>) -> Attempt {
    let planned = Planned::from_bytes(bytes)?;
    let (rollout, mandate, release) =
        (planned.rollout.peek()?, planned.mandate.peek()?, planned.release.peek()?);
    let document = json!({
        "rollout": rollout, "mandate": mandate, "release": release, "release_digest": planned.release.digest(),
    });
    let signatures = match (judge, document["rollout"]["app"].as_str()) {
        (Some(judge), Some(app)) => judged(planned.verify(&judge.trust, &app.parse()?)),
        _ => no_root(),
    };
    Ok(Decoded { kind: "plan", signatures, document: readable(document) })
}

/// How a rollout stands. Which key signs it says its plan alone.
pub(super) fn course(bytes: &[u8]) -> Attempt {
    let signed = Signed::<Course>::from_bytes(bytes)?;
    let mut document = serde_json::to_value(signed.peek()?)?;
    for order in document["orders"].as_array_mut().into_iter().flatten() {
        let signed: Signed<Order> = serde_json::from_value(order.take())?;
        *order = json!(signed.peek()?);
    }
    let why = "the plan of the app names the key that signs it: see `publisher rollout status`";
    let signatures = Signatures::NotChecked(why.to_owned());
    Ok(Decoded { kind: Course::TYPE, signatures, document: readable(document) })
}

/// What a controller says of itself, signed by the key that it names.
pub(super) fn own<T: Own>(bytes: &[u8], judge: Option<&Judge>) -> Attempt {
    let signed = Signed::<T>::from_bytes(bytes)?;
    let document = serde_json::to_value(signed.peek()?)?;
    let key: Option<PublicKey> = document["key"].as_str().and_then(|key| key.parse().ok());
    let signatures = match (judge, key) {
        (Some(judge), Some(key)) => match judged(signed.verify_own(judge.trust.fleet())) {
            Signatures::Right if !judge.controllers.contains(&key.id()) => Signatures::NotChecked(format!(
                "it is signed by the key that it names, {}, which this home has given no rollout to",
                key.id()
            )),
            signatures => signatures,
        },
        _ => no_root(),
    };
    Ok(Decoded { kind: T::TYPE, signatures, document: readable(document) })
}

#[cfg(test)]
mod tests {
    use rollout::{
        Deed,
        samples::{at, desk, look},
    };
    use schemas::topic::Kind;

    use super::*;
    use crate::{
        decode::decode,
        samples::{Sample, idle},
    };

    #[test]
    fn a_course_shows_the_orders_in_it_and_its_orders_bring_their_mandate() {
        let sample = Sample::new();
        let mut fleet = sample.fleet(&[("pi-1", Some(idle(1)))]);
        let planned = sample.planned("[[stage]]\ngroup = \"all\"", 1, |_| {});
        fleet.take(&Kind::Plan("web".parse().unwrap()).of(sample.trust.fleet()), &planned.to_bytes());
        let deeds = look(&mut desk(fleet), at(0));
        let judge = Judge { trust: sample.home.trust.clone(), keys: [].into(), controllers: [].into() };
        let decoded: Vec<_> = deeds
            .iter()
            .filter_map(|deed| match deed {
                Deed::Publish(_, payload) => Some(decode(payload, None, Some(&judge)).unwrap()),
                Deed::Tell(_) | Deed::Note(_) => None,
            })
            .collect();
        let [course, order] = &decoded[..] else { panic!() };
        assert_eq!((course.kind, &course.document["orders"][0]["state"]), ("course", &json!("active")));
        assert!(matches!(course.signatures, Signatures::NotChecked(_)));
        assert_eq!((order.kind, &order.signatures), ("announcement", &Signatures::Right));
        assert_eq!(order.document["mandate"]["first"], json!(100));
    }
}
