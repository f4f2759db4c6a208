//! The CNI protocol, and the small static plugin that hands each call to the agent.
