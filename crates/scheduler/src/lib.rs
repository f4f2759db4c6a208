//! The scheduler of the embedded control plane: filter, score, bind.
