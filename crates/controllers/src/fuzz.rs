//! A way into this crate for fuzzing (crate `fuzz-targets`): objects that an API server hands out.

/// LoadBalancerPools and Services, a list of them.
pub fn pools(objects: &[u8]) {
    if let Ok(objects) = serde_json::from_slice::<Vec<_>>(objects) {
        crate::balancer::fuzz::pools(&objects);
    }
}
