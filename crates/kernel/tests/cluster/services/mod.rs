//! Services in our programs' maps, with real sockets of pods in a control group of their own.

mod choice;
mod fixture;
mod links;
mod loopback;
mod planned;
mod refusal;
mod sctp;
mod tcp;
mod udp;
mod unanswered;
