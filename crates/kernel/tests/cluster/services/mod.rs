//! Services in our programs' maps, with real sockets of pods in a control group of their own.

mod fixture;
mod planned;
mod tcp;
