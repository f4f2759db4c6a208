//! Fixtures for tests: namespaces that clean up, conditions instead of sleeps.
