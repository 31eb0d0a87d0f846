use super::*;

struct Counter(AtomicU64, u64);

impl PerOrigin for Counter {
    type Policy = u64;

    fn open(policy: &u64, _: Instant) -> Self {
        Self(AtomicU64::new(0), *policy)
    }

    fn serves(&self, policy: &u64) -> bool {
        self.1 == *policy
    }

    fn succeeded_by(&self, policy: &u64, _: Instant) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)), *policy)
    }
}

fn uri(n: usize) -> Uri {
    format!("http://host-{n}.example/").parse().unwrap()
}

fn count(origins: &Origins<Counter>, uri: &Uri, policy: u64) -> u64 {
    origins.with(uri, &policy, |counter| counter.0.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn each_origin_has_its_own_state_whatever_its_case_and_clones_share_it() {
    let origins = Origins::new();
    assert_eq!(count(&origins, &Uri::from_static("http://Shop.example/a"), 0), 0);
    assert_eq!(count(&origins.clone(), &Uri::from_static("http://shop.EXAMPLE/b"), 0), 1);
    assert_eq!(count(&origins, &uri(2), 0), 0);
    assert_eq!(count(&origins, &Uri::from_static("/a"), 0), 0, "a path has no origin");
    assert_eq!(count(&origins, &Uri::from_static("/b"), 0), 1, "all of them share one");
    assert_eq!(origins.len(), 3);
    assert_eq!(origins.all().len(), 3);
    assert!(origins.find(&Authority::from_static("shop.example")).is_some());
    assert!(origins.find(&Authority::from_static("else.example")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_takes_the_state_over() {
    let origins = Origins::new();
    assert_eq!(count(&origins, &uri(1), 0), 0);
    assert_eq!(count(&origins, &uri(1), 7), 1);
    assert_eq!(count(&origins, &uri(1), 7), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_stays_when_many_others_come() {
    let origins = Origins::new();
    for n in 1..3_000 {
        assert_eq!(count(&origins, &uri(n), 0), 0);
        assert_eq!(count(&origins, &uri(0), 0), u64::try_from(n - 1).unwrap());
    }
    assert_eq!(origins.len(), ORIGINS_MAX);
}

/// A state that serves one policy only, and lets others live beside it.
struct Lane(AtomicU64, u64);

impl PerOrigin for Lane {
    type Policy = u64;

    const SIDE_BY_SIDE: bool = true;

    fn open(policy: &u64, _: Instant) -> Self {
        Self(AtomicU64::new(0), *policy)
    }

    fn serves(&self, policy: &u64) -> bool {
        self.1 == *policy
    }

    fn succeeded_by(&self, policy: &u64, _: Instant) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)), *policy)
    }
}

#[tokio::test(start_paused = true)]
async fn states_for_different_policies_can_live_side_by_side() {
    let lanes: Origins<Lane, Vec<u8>> = Origins::new();
    let next = |key: &[u8], policy| {
        lanes.with_key(key, &policy, |lane| lane.0.fetch_add(1, Ordering::Relaxed))
    };
    assert_eq!([next(b"a", 0), next(b"a", 0), next(b"b", 0)], [0, 1, 0]);
    assert_eq!(next(b"a", 1), 2, "it begins with what the other knows");
    assert_eq!([next(b"a", 0), next(b"a", 1), next(b"a", 0)], [2, 3, 3], "and goes its own way");
    assert_eq!(lanes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_stay_within_the_bound() {
    let lanes: Origins<Lane, Vec<u8>> = Origins::bounded(16);
    for n in 0..1_000_000_u32 {
        lanes.with_key(&n.to_ne_bytes()[..], &0, |_| ());
    }
    assert_eq!(lanes.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_bound_of_any_size_holds_and_the_latest_key_is_there() {
    for bound in [0, 1, 63, 64, 100, 1_000, 5_000] {
        let lanes: Origins<Lane, Vec<u8>> = Origins::bounded(bound);
        for n in 0..20_000_u32 {
            let key = &n.to_ne_bytes()[..];
            let [first, second] = [0, 1].map(|_| lanes.with_key(key, &0, Arc::clone));
            assert!(Arc::ptr_eq(&first, &second));
        }
        assert!((bound * 9 / 10..=bound.max(1)).contains(&lanes.len()), "{bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_origin_is_forgotten_like_any_other() {
    let origins = Origins::bounded(16);
    assert_eq!(count(&origins, &uri(0), 0), 0);
    assert_eq!(count(&origins, &uri(0), 0), 1);
    for n in 1..200 {
        assert_eq!(count(&origins, &uri(n), 0), 0);
    }
    assert_eq!(count(&origins, &uri(0), 0), 0, "evicted");
    assert_eq!(count(&origins, &uri(0), 0), 1);
    assert_eq!(count(&origins, &uri(0), 7), 2, "under another policy, with what there was");
    assert_eq!(count(&origins, &uri(0), 7), 3);
    assert_eq!(origins.if_there(&uri(0), |counter| counter.1).ok(), Some(7));
    assert!(origins.if_there(&uri(777), |counter| counter.1).is_err());
}
