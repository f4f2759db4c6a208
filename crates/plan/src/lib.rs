//! The pure planner: Snapshot and NodeFacts in, NodePlan out; and the tracer that walks a packet through a plan.
